// SPDX-License-Identifier: Apache-2.0
// Which sequences may hold KV blocks in the next step: pure functions of block counts.
#pragma once

#include <span>
#include <vector>

#include "trireme/executor.h"

namespace trireme::scheduler {

// KV blocks of a sequence that holds a slot.
struct RunningNeed {
  int held_blocks = 0;
  int next_blocks = 0;   // all it needs for the tokens known now and the next one
  int final_blocks = 0;  // all it can ever need
  int freed_blocks = 0;  // become available when it is paused; shared ones do not
};

struct WaitingNeed {
  int start_blocks = 0;  // for its known tokens and the next one
  int final_blocks = 0;
};

struct CapacityInput {
  CapacityPolicy policy = CapacityPolicy::kGuaranteedNoEvict;
  int available_blocks = 0;
  int free_slots = 0;
  std::span<const RunningNeed> running;  // oldest first
  std::span<const WaitingNeed> waiting;  // the first in the queue first
};

struct CapacityPlan {
  // This many from the front of the queue get a slot. Nobody overtakes: one that does not fit
  // keeps those behind it waiting, so none starves.
  int num_admitted = 0;
  std::vector<int> paused;  // indexes into `running`, the youngest first
};

// GUARANTEED_NO_EVICT admits while the worst case of all who hold a slot fits; never pauses.
// STATIC_BATCH does the same, but only once nobody holds a slot. MAX_UTILIZATION admits while the
// known tokens fit, and pauses the youngest when they no longer do; the oldest is never paused, so
// there is always progress.
CapacityPlan PlanCapacity(const CapacityInput& input);

}  // namespace trireme::scheduler
