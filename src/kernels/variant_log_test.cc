// SPDX-License-Identifier: Apache-2.0
#include "kernels/variant_log.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>

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

// Runs after all tests of the program; a partial run (--gtest_filter) proves nothing and is let be.
class EveryVariantRan : public ::testing::Environment {
 public:
  void TearDown() override {
    const std::string filter = GTEST_FLAG_GET(filter);
    const bool whole = filter == "*" || filter.empty();
    const Isa host = BestIsa(HostCpuFeatures());
    for (const KernelVariantCount& variant : KernelVariantLog()) {
      std::printf("variant %-44s %-8s %llu\n", variant.name.c_str(), IsaName(variant.isa).c_str(),
                  static_cast<unsigned long long>(variant.count));
      if (!whole || variant.isa > host) continue;
      EXPECT_GT(variant.count, 0u) << variant.name << " never ran";
    }
  }
};

const ::testing::Environment* const g_every_variant_ran =
    ::testing::AddGlobalTestEnvironment(new EveryVariantRan);

}  // namespace
}  // namespace trireme::kernels
