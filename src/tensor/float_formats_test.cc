// SPDX-License-Identifier: Apache-2.0
#include "tensor/float_formats.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <random>

namespace trireme {
namespace {

// The nearest value among all patterns of a format, ties to the even pattern: the definition.
template <typename Format, typename Bits>
Format Nearest(float x, Bits patterns_end, float largest) {
  Format best{0};
  double best_distance = INFINITY;
  for (uint32_t bits = 0; bits < patterns_end; ++bits) {
    const Format candidate{static_cast<decltype(Format::bits)>(bits)};
    const float value = ToFloat(candidate);
    if (std::isnan(value) || std::fabs(value) > largest) continue;
    const double distance = std::fabs(double{value} - double{x});
    if (distance < best_distance || (distance == best_distance && bits % 2 == 0)) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

TEST(FloatFormatsTest, EveryPatternRoundTrips) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const uint16_t pattern = static_cast<uint16_t>(bits);
    const float half = ToFloat(float16_t{pattern});
    if (!std::isnan(half)) {
      EXPECT_EQ(ToFloat16(half).bits, pattern);
    }
    const float brain = ToFloat(bfloat16_t{pattern});
    if (!std::isnan(brain)) {
      EXPECT_EQ(ToBFloat16(brain).bits, pattern);
    }
  }
  for (uint32_t bits = 0; bits < 256; ++bits) {
    const float value = ToFloat(float8_e4m3_t{static_cast<uint8_t>(bits)});
    if (!std::isnan(value)) {
      EXPECT_EQ(ToFloat8E4M3(value).bits, bits);
    }
  }
}

TEST(FloatFormatsTest, RoundsToNearestEven) {
  std::mt19937 random(7);
  std::uniform_real_distribution<float> exponent(-30, 18);
  for (int i = 0; i < 300; ++i) {
    const float x = std::exp2(exponent(random));
    const float fp16_value = ToFloat(ToFloat16(x));
    if (std::fabs(x) < 65504) {
      EXPECT_EQ(fp16_value, ToFloat(Nearest<float16_t>(x, 0x8000u, 65504.0f))) << x;
    }
    EXPECT_EQ(ToFloat(ToFloat8E4M3(x)),
              ToFloat(Nearest<float8_e4m3_t>(std::fmin(x, 448.0f), 0x80u, 448.0f)))
        << x;
  }
}

TEST(FloatFormatsTest, OverflowAndNan) {
  EXPECT_TRUE(std::isinf(ToFloat(ToFloat16(65520.0f))));
  EXPECT_EQ(ToFloat(ToFloat16(65519.0f)), 65504.0f);
  EXPECT_EQ(ToFloat(ToFloat8E4M3(1e9f)), 448.0f);
  EXPECT_EQ(ToFloat(ToFloat8E4M3(-INFINITY)), -448.0f);
  EXPECT_TRUE(std::isnan(ToFloat(ToFloat8E4M3(NAN))));
  EXPECT_TRUE(std::isnan(ToFloat(ToFloat16(NAN))));
  EXPECT_TRUE(std::isnan(ToFloat(ToBFloat16(NAN))));
}

}  // namespace
}  // namespace trireme
