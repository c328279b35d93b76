// SPDX-License-Identifier: Apache-2.0
// Chooses the kernels of every linear launch of a plan for the GPU. No CUDA headers.
#pragma once

#include "compile/choose_tactics.h"
#include "plan/plan.h"

namespace trireme::compile {

// Fills `tactics` of each linear launch for the row profiles up to `max_rows`, with the kernels' own
// first guesses. Needs no GPU.
Status ChooseCudaTactics(plan::Plan& plan, const TacticOptions& options, int64_t max_rows);

}  // namespace trireme::compile
