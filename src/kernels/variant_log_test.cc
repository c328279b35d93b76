// SPDX-License-Identifier: Apache-2.0
#include "kernels/variant_log.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "kernels/every_variant_ran.h"

namespace trireme::kernels {
namespace {

KernelVariant g_first("variant_log_test.first", Isa::kGeneric);
KernelVariant g_second("variant_log_test.second", Isa::kGeneric);

uint64_t CountOf(const std::string& name) {
  for (const KernelVariantCount& variant : KernelVariantLog()) {
    if (variant.name == name) return variant.count;
  }
  ADD_FAILURE() << name << " is not in the log";
  return 0;
}

TEST(VariantLogTest, CountsPerName) {
  const uint64_t first = CountOf("variant_log_test.first");
  const uint64_t second = CountOf("variant_log_test.second");
  g_first.Count();
  g_first.Count();
  g_second.Count();
  EXPECT_EQ(CountOf("variant_log_test.first"), first + 2);
  EXPECT_EQ(CountOf("variant_log_test.second"), second + 1);
}

TEST(VariantLogTest, SortedWithoutDoubles) {
  const std::vector<KernelVariantCount> log = KernelVariantLog();
  for (size_t i = 1; i < log.size(); ++i) EXPECT_LT(log[i - 1].name, log[i].name);
}

const ::testing::Environment* const g_every_variant_ran =
    ::testing::AddGlobalTestEnvironment(new EveryVariantRan);

}  // namespace
}  // namespace trireme::kernels
