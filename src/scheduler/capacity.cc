// SPDX-License-Identifier: Apache-2.0
#include "scheduler/capacity.h"

#include <algorithm>
#include <cstdint>

namespace trireme::scheduler {
namespace {

// How many of the waiting fit into `blocks` and the free slots, counted by `need`.
int CountFitting(const CapacityInput& input, int64_t blocks, int WaitingNeed::*need) {
  int admitted = 0;
  for (const WaitingNeed& waiting : input.waiting) {
    if (admitted == input.free_slots || waiting.*need > blocks) break;
    blocks -= waiting.*need;
    ++admitted;
  }
  return admitted;
}

CapacityPlan PlanWithoutEviction(const CapacityInput& input) {
  int64_t unreserved = input.available_blocks;
  for (const RunningNeed& running : input.running) {
    unreserved -= std::max(0, running.final_blocks - running.held_blocks);
  }
  return {.num_admitted = CountFitting(input, unreserved, &WaitingNeed::final_blocks)};
}

CapacityPlan PlanMaxUtilization(const CapacityInput& input) {
  int64_t left = input.available_blocks;
  for (const RunningNeed& running : input.running) {
    left -= std::max(0, running.next_blocks - running.held_blocks);
  }
  CapacityPlan plan;
  for (int i = static_cast<int>(input.running.size()) - 1; i > 0 && left < 0; --i) {
    const RunningNeed& victim = input.running[i];
    left += std::max(0, victim.next_blocks - victim.held_blocks) + victim.freed_blocks;
    plan.paused.push_back(i);
  }
  // Whoever has just been paused would be the first to be admitted again.
  if (plan.paused.empty()) {
    plan.num_admitted = CountFitting(input, left, &WaitingNeed::start_blocks);
  }
  return plan;
}

}  // namespace

CapacityPlan PlanCapacity(const CapacityInput& input) {
  switch (input.policy) {
    case CapacityPolicy::kMaxUtilization: return PlanMaxUtilization(input);
    case CapacityPolicy::kStaticBatch:
      return input.running.empty() ? PlanWithoutEviction(input) : CapacityPlan{};
    case CapacityPolicy::kGuaranteedNoEvict: break;
  }
  return PlanWithoutEviction(input);
}

}  // namespace trireme::scheduler
