// SPDX-License-Identifier: Apache-2.0
// Chooses layout and kernels of every linear launch: timed on the device, jointly over the row
// counts of the profiles. Not thread-safe.
#pragma once

#include <functional>
#include <string>

#include "compile/timing_cache.h"
#include "kernels/cpu_context.h"
#include "plan/plan.h"

namespace trireme::compile {

struct TacticOptions {
  bool time = true;
  // Keep only tactics whose kernel or layout holds this text, or one of several ("a,b").
  std::string force;
  // GPU: only tactics that give a row the same bits whatever the number of rows. On the CPU all do.
  bool batch_invariant = false;
};

// Fills `tactics` of each linear launch and layout and num_bytes of its weight. `progress` hears
// (done, total) problems. INVALID_ARGUMENT when `force` leaves a problem without a tactic.
Status ChooseTactics(plan::Plan& plan, const TacticOptions& options, kernels::CpuContext& context,
                     TimingCache& cache, const std::function<void(int64_t, int64_t)>& progress);

}  // namespace trireme::compile
