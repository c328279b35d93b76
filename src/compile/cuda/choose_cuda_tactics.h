// SPDX-License-Identifier: Apache-2.0
// Chooses the kernels of every linear launch of a plan for the GPU. No CUDA headers.
#pragma once

#include <functional>
#include <string>

#include "compile/choose_tactics.h"
#include "compile/timing_cache.h"
#include "plan/plan.h"

namespace trireme::compile {

// What times of a timing cache belong to: the GPU, its driver and this version; "cuda" alone where
// there is no GPU.
std::string CudaTimingKey();

struct RowLimits {
  int64_t max_tokens = 0;
  int64_t max_logit_rows = 0;
};

// Fills `tactics` of each linear launch for the row profiles up to its limit: the fastest when a
// GPU is there and times are wanted, else the kernels' own first guesses. `progress` hears (done,
// total) launches.
Status ChooseCudaTactics(plan::Plan& plan, const TacticOptions& options, const RowLimits& limits,
                         TimingCache& cache, const std::function<void(int64_t, int64_t)>& progress);

}  // namespace trireme::compile
