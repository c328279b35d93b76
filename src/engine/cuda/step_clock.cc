// SPDX-License-Identifier: Apache-2.0
#include "engine/cuda/step_clock.h"

#include "base/status.h"

namespace trireme::engine {

StatusOr<StepClock> StepClock::Create() {
  StepClock clock;
  for (Step& step : clock.steps_) {
    TRIREME_ASSIGN_OR_RETURN(step.begin, cuda::TimedEvent::Create());
    TRIREME_ASSIGN_OR_RETURN(step.end, cuda::TimedEvent::Create());
  }
  return clock;
}

Status StepClock::Begin(const cuda::LaunchContext& context) {
  Step& step = At(num_begun_++);
  step.launches_before = context.num_launches;
  return step.begin.Record(context.stream);
}

Status StepClock::End(const cuda::LaunchContext& context) {
  Step& step = At(num_begun_ - 1);
  step.launches = static_cast<int>(context.num_launches - step.launches_before);
  return step.end.Record(context.stream);
}

StatusOr<std::optional<StepTiming>> StepClock::Read() {
  const uint64_t index = expected_.front();
  expected_.pop_front();
  // The step before it is read too.
  if (num_begun_ - index > kKept - 1) return std::optional<StepTiming>();
  const Step& step = At(index);
  // Recorded right behind what the caller has waited for.
  TRIREME_RETURN_IF_ERROR(step.end.Synchronize());
  StepTiming timing{.launches = step.launches};
  TRIREME_ASSIGN_OR_RETURN(timing.busy_us, step.end.MicrosecondsSince(step.begin));
  if (index > 0) {
    TRIREME_ASSIGN_OR_RETURN(timing.idle_us, step.begin.MicrosecondsSince(At(index - 1).end));
  }
  return std::optional<StepTiming>(timing);
}

}  // namespace trireme::engine
