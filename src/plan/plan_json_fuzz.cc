// SPDX-License-Identifier: Apache-2.0
// Fuzz target: the plan inside an engine file. A plan that is accepted survives being written and
// read again, and its memory can be planned.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "plan/plan.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace trireme::plan;
  const auto plan = PlanFromJson({reinterpret_cast<const char*>(data), size});
  if (!plan.ok()) return 0;
  const std::string written = PlanToJson(*plan);
  const auto again = PlanFromJson(written);
  TRIREME_CHECK(again.ok());
  TRIREME_CHECK(PlanToJson(*again) == written);
  const MemoryPlan memory = PlanMemory(plan->buffers, 64, 8);
  TRIREME_CHECK_EQ(memory.offsets.size(), plan->buffers.size());
  return 0;
}
