// SPDX-License-Identifier: Apache-2.0
#include "engine/cuda/launch_timer.h"

#include <algorithm>

#include "base/status.h"

namespace trireme::engine {
namespace {

// Events without a launch between them, to see what one takes.
constexpr int kEmptyMarks = 9;

}  // namespace

Status LaunchTimer::Record(int launch, cudaStream_t stream) {
  TRIREME_ASSIGN_OR_RETURN(events_.emplace_back(), cuda::TimedEvent::Create());
  launches_.push_back(launch);
  return events_.back().Record(stream);
}

Status LaunchTimer::Begin(cudaStream_t stream) {
  events_.clear();
  launches_.clear();
  for (int i = 0; i < kEmptyMarks; ++i) TRIREME_RETURN_IF_ERROR(Record(-1, stream));
  return OkStatus();
}

Status LaunchTimer::Mark(int launch, cudaStream_t stream) { return Record(launch, stream); }

StatusOr<std::vector<double>> LaunchTimer::Seconds(size_t num_launches) const {
  TRIREME_RETURN_IF_ERROR(events_.back().Synchronize());
  std::vector<double> empty;
  std::vector<double> seconds(num_launches, 0.0);
  double event_us = 0;
  for (size_t i = 1; i < events_.size(); ++i) {
    TRIREME_ASSIGN_OR_RETURN(const double us, events_[i].MicrosecondsSince(events_[i - 1]));
    if (launches_[i] < 0) {
      empty.push_back(us);
      std::nth_element(empty.begin(), empty.begin() + empty.size() / 2, empty.end());
      event_us = empty[empty.size() / 2];
    } else {
      seconds[static_cast<size_t>(launches_[i])] += 1e-6 * std::max(0.0, us - event_us);
    }
  }
  return seconds;
}

}  // namespace trireme::engine
