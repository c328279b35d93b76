// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/embedding.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "kernels/cuda/testing.h"

namespace trireme::cuda {
namespace {

TEST(EmbeddingGpuTest, LooksUpScalesAndStopsAtTheCount) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (const int hidden : {8, 64, 896, 4096}) {
    const int vocab = 37;
    const int max_tokens = 9;
    std::vector<float> table(static_cast<size_t>(vocab) * hidden);
    for (float& value : table) value = normal(random);
    const auto rounded = ToBFloat16(table);
    DeviceArray<__nv_bfloat16> device_table(rounded);
    DeviceArray<int32_t> ids(std::vector<int32_t>{0, 36, 5, 37, -1, 5, 7, 7, 7});
    DeviceArray<int32_t> count(std::vector<int32_t>{6});
    DeviceArray<__nv_bfloat16> y(static_cast<size_t>(max_tokens) * hidden);
    LaunchContext context;
    ASSERT_EQ(Embedding({.dtype = Element::kBFloat16,
                         .table = device_table.data(),
                         .ids = ids.data(),
                         .y = y.data(),
                         .vocab_size = vocab,
                         .hidden_size = hidden,
                         .scale = 2.0f,
                         .max_tokens = max_tokens,
                         .num_tokens = count.data()},
                        context),
              cudaSuccess);
    EXPECT_EQ(context.num_launches, 1);
    const auto out = y.Read();
    const int expected[] = {0, 36, 5, -1, -1, 5};
    for (int token = 0; token < max_tokens; ++token) {
      for (int i = 0; i < hidden; ++i) {
        const float got = __bfloat162float(out[static_cast<size_t>(token) * hidden + i]);
        if (token >= 6) {
          EXPECT_TRUE(std::isnan(got)) << "row " << token << " lies beyond the count";
        } else {
          const int id = expected[token];
          const float want =
              id < 0 ? 0.0f
                     : 2.0f * __bfloat162float(rounded[static_cast<size_t>(id) * hidden + i]);
          EXPECT_EQ(got, want) << "token " << token << " at " << i;
        }
      }
    }
  }
}

TEST(EmbeddingGpuTest, RefusesWidthsItCannotLoad) {
  LaunchContext context;
  EXPECT_EQ(Embedding({.hidden_size = 12, .max_tokens = 1}, context), cudaErrorInvalidValue);
}

}  // namespace
}  // namespace trireme::cuda
