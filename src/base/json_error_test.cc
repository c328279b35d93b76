// SPDX-License-Identifier: Apache-2.0
#include "base/json_error.h"

#include <gtest/gtest.h>

namespace trireme {
namespace {

TEST(JsonErrorTest, NamesTheFirstWrongByte) {
  EXPECT_EQ(JsonErrorPlace("{\"a\": 1,\n \"b\": }"), "line 2, column 7, at '}'");
  EXPECT_EQ(JsonErrorPlace("nonsense"), "line 1, column 2, at 'o'");
  EXPECT_EQ(JsonErrorPlace("{} x"), "line 1, column 4, at 'x'");
  EXPECT_EQ(JsonErrorPlace("{\"a\": \"\xff\"}"), "line 1, column 8, at byte 0xff");
  for (const char* cut : {"", "{", "{\"a\": ", "{\"a\": \"x", "[1, 2"}) {
    EXPECT_EQ(JsonErrorPlace(cut), "its end, which comes too soon") << cut;
  }
}

}  // namespace
}  // namespace trireme
