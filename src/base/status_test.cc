// SPDX-License-Identifier: Apache-2.0
#include "base/status.h"

#include <gtest/gtest.h>

#include <memory>

namespace trireme {
namespace {

TEST(StatusTest, OkHasNoMessage) {
  EXPECT_TRUE(Status().ok());
  EXPECT_EQ(Status().ToString(), "OK");
  EXPECT_EQ(Status().WithContext("x"), OkStatus());
}

TEST(StatusTest, MakersFormat) {
  const Status status = InvalidArgument("got {}, want {}", 1, "two");
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "got 1, want two");
  EXPECT_EQ(status.WithContext("file").ToString(), "INVALID_ARGUMENT: file: got 1, want two");
}

StatusOr<std::unique_ptr<int>> Make(bool good) {
  if (!good) return NotFound("nothing");
  return std::make_unique<int>(7);
}

StatusOr<int> Use(bool good) {
  TRIREME_ASSIGN_OR_RETURN(std::unique_ptr<int> value, Make(good));
  return *value;
}

TEST(StatusOrTest, MovesValuesAndErrorsThrough) {
  EXPECT_EQ(Use(true).value(), 7);
  EXPECT_EQ(Use(false).status().code(), StatusCode::kNotFound);
}

TEST(StatusOrDeathTest, ReadingAnErrorDies) { EXPECT_DEATH(Use(false).value(), "nothing"); }

}  // namespace
}  // namespace trireme
