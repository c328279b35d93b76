// SPDX-License-Identifier: Apache-2.0
// A test program that must run every kernel variant of the host: an environment that lists them all
// when the tests are over and fails on one that never ran. Tests only.
//
//   const auto* const g_every_variant_ran =
//       ::testing::AddGlobalTestEnvironment(new trireme::kernels::EveryVariantRan);
#pragma once

#include <gtest/gtest.h>

#include <cstdio>

#include "kernels/variant_log.h"

namespace trireme::kernels {

class EveryVariantRan : public ::testing::Environment {
 public:
  void TearDown() override {
    // A partial run (--gtest_filter) proves nothing and is let be.
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

}  // namespace trireme::kernels
