// SPDX-License-Identifier: Apache-2.0
// When steps began and ended on the GPU, read behind the host without waiting. Engine thread only.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <optional>

#include "device/cuda/launch.h"
#include "device/cuda/stream.h"
#include "engine/session.h"

namespace trireme::engine {

class StepClock {
 public:
  static StatusOr<StepClock> Create();

  // Before the first launch of a step.
  Status Begin(const cuda::LaunchContext& context);
  // After the last one so far: at the end of Forward, and again after Sample.
  Status End(const cuda::LaunchContext& context);
  // The step just ended will be awaited.
  void Expect() { expected_.push_back(num_begun_ - 1); }
  // The oldest expected step has ended. None where so many steps followed that its events are gone.
  StatusOr<std::optional<StepTiming>> Read();

 private:
  // More than a session has in flight.
  static constexpr uint64_t kKept = 8;
  struct Step {
    cuda::TimedEvent begin;
    cuda::TimedEvent end;
    int64_t launches_before = 0;
    int launches = 0;
  };
  Step& At(uint64_t step) { return steps_[step % kKept]; }

  std::array<Step, kKept> steps_;
  std::deque<uint64_t> expected_;
  uint64_t num_begun_ = 0;
};

}  // namespace trireme::engine
