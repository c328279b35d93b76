// SPDX-License-Identifier: Apache-2.0
#include "base/log_text.h"

#include <gtest/gtest.h>

#include "base/log.h"

namespace trireme {
namespace {

TEST(LogText, ValuesAreQuotedOnOneLine) {
  EXPECT_EQ(Quoted("plain"), "\"plain\"");
  EXPECT_EQ(Quoted("a \"b\"\nc\\d"), "\"a \\\"b\\\"\\nc\\\\d\"");
  EXPECT_EQ(Quoted("\x1b[2J\r"), "\"\\x1b[2J\\x0d\"");
  EXPECT_EQ(Quoted("\tn\xc3\xa4her"), "\"\tn\xc3\xa4her\"");
}

TEST(LogText, ALineOfTheLogStaysOne) {
  testing::internal::CaptureStderr();
  LogError("load_failed reason={}", "first\nsecond");
  const std::string text = testing::internal::GetCapturedStderr();
  EXPECT_NE(text.find("first\\nsecond"), std::string::npos) << text;
  EXPECT_EQ(text.find('\n'), text.size() - 1) << text;
}

}  // namespace
}  // namespace trireme
