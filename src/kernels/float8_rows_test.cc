// SPDX-License-Identifier: Apache-2.0
#include "kernels/float8_rows.h"

#include <gtest/gtest.h>

#include "kernels/kernels_testing.h"
#include "tensor/float_formats.h"

namespace trireme::kernels {
namespace {

TEST(Float8RowsTest, EveryElementPassesThroughItsCodeAndNothingElseIsWritten) {
  ThreadPool pool(2, /*pin=*/false);
  CpuContext context{&pool, Isa::kGeneric};
  TestRandom random(1);
  for (const int64_t rows : {1, 3, 200}) {
    for (const int64_t size : {1, 7, 1030}) {
      const int64_t x_stride = size + 3;
      const int64_t y_stride = size + 1;
      std::vector<float> x = random.Normals(rows * x_stride, 40.0f);
      x[0] = 1e6f;  // saturates
      GuardedFloats y(rows * y_stride);
      RoundToFloat8({.x = x.data(),
                     .x_stride = x_stride,
                     .scale = 0.3f,
                     .y = y.data(),
                     .y_stride = y_stride,
                     .num_rows = rows,
                     .size = size},
                    context);
      EXPECT_EQ(y.data()[0], 448.0f * 0.3f);
      EXPECT_TRUE(y.GuardsIntact());
      for (int64_t row = 0; row < rows; ++row) {
        for (int64_t i = 0; i < size; ++i) {
          const float want = ToFloat(ToFloat8E4M3(x[row * x_stride + i] / 0.3f)) * 0.3f;
          ASSERT_EQ(y.data()[row * y_stride + i], want) << row << " " << i;
        }
        ASSERT_TRUE(std::isnan(y.data()[row * y_stride + size])) << "between rows";
      }
    }
  }
}

TEST(Float8RowsTest, InPlace) {
  ThreadPool pool(1, /*pin=*/false);
  CpuContext context{&pool, Isa::kGeneric};
  std::vector<float> x = {0.0f, 1.0f, -17.0f, 0.001f};
  RoundToFloat8({.x = x.data(),
                 .x_stride = 4,
                 .scale = 1.0f,
                 .y = x.data(),
                 .y_stride = 4,
                 .num_rows = 1,
                 .size = 4},
                context);
  EXPECT_EQ(x[0], 0.0f);
  EXPECT_EQ(x[1], 1.0f);
  EXPECT_EQ(x[2], -16.0f);        // a tie of -16 and -18 goes to the even code
  EXPECT_EQ(x[3], 0.001953125f);  // 2^-9, the least above zero
}

}  // namespace
}  // namespace trireme::kernels
