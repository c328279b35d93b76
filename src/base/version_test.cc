// SPDX-License-Identifier: Apache-2.0
#include "base/version.h"

#include <gmock/gmock.h>

#include "base/cpu_features.h"

namespace trireme {
namespace {

TEST(VersionTest, IsThreeNumbers) {
  EXPECT_THAT(std::string(Version()), testing::MatchesRegex("[0-9]+\\.[0-9]+\\.[0-9]+"));
}

TEST(VersionTest, TextNamesEachPart) {
  const std::string text = VersionText("abc123");
  EXPECT_THAT(text, testing::StartsWith("trireme " + std::string(Version()) + "\n"));
  EXPECT_THAT(text, testing::HasSubstr("commit: abc123\n"));
  EXPECT_THAT(text, testing::HasSubstr("cpu: " + CpuFeaturesText(HostCpuFeatures())));
  EXPECT_THAT(text, testing::ContainsRegex("\ncuda: .+[^\n]$"));
}

}  // namespace
}  // namespace trireme
