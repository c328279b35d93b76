// SPDX-License-Identifier: Apache-2.0
// Times the launches of one step apart, for reports: events between them keep them from
// overlapping. Engine thread only.
#pragma once

#include <vector>

#include "device/cuda/stream.h"

namespace trireme::engine {

class LaunchTimer {
 public:
  // What is submitted next belongs to the first mark.
  Status Begin(cudaStream_t stream);
  // Launch `launch` of the plan has been submitted.
  Status Mark(int launch, cudaStream_t stream);
  // Waits. Seconds of each launch of the plan, without what an event alone takes; 0 where it was
  // not marked, the sum where it was more than once.
  StatusOr<std::vector<double>> Seconds(size_t num_launches) const;

 private:
  Status Record(int launch, cudaStream_t stream);

  std::vector<cuda::TimedEvent> events_;
  std::vector<int> launches_;  // by event; -1: none
};

}  // namespace trireme::engine
