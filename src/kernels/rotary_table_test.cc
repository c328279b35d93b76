// SPDX-License-Identifier: Apache-2.0
#include "kernels/rotary_table.h"

#include <gtest/gtest.h>

#include <cmath>

namespace trireme::kernels {
namespace {

// Frequency and amplitude read back from the table: entry (1, j) is amplitude * (cos f, sin f).
double Frequency(const RotaryTable& table, int j) {
  const size_t i = static_cast<size_t>(table.rotary_dim / 2 + j);
  return std::atan2(static_cast<double>(table.sin[i]), static_cast<double>(table.cos[i]));
}
double Amplitude(const RotaryTable& table, int j) {
  const size_t i = static_cast<size_t>(table.rotary_dim / 2 + j);
  return std::hypot(static_cast<double>(table.sin[i]), static_cast<double>(table.cos[i]));
}
double Plain(double base, int dim, int j) { return std::pow(base, -2.0 * j / dim); }

RotarySpec Spec(const std::string& type, double factor, int original) {
  RotarySpec spec{.rotary_dim = 64, .base = 10000.0};
  spec.scaling.type = type;
  spec.scaling.factor = factor;
  spec.scaling.original_max_position_embeddings = original;
  return spec;
}

TEST(RotaryTableTest, Plain) {
  const RotaryTable table = BuildRotaryTable(Spec("none", 1, 0), 300).value();
  ASSERT_EQ(table.cos.size(), 300u * 32);
  for (int position : {0, 1, 7, 299}) {
    for (int j = 0; j < 32; ++j) {
      const double angle = position * Plain(10000, 64, j);
      // The angle is rounded to float32 before the cosine: 2^-24 of it.
      EXPECT_NEAR(table.cos[static_cast<size_t>(position * 32 + j)], std::cos(angle), 4e-5);
      EXPECT_NEAR(table.sin[static_cast<size_t>(position * 32 + j)], std::sin(angle), 4e-5);
    }
  }
}

TEST(RotaryTableTest, Linear) {
  const RotaryTable table = BuildRotaryTable(Spec("linear", 4.0, 2048), 8).value();
  for (int j = 0; j < 32; ++j) EXPECT_NEAR(Frequency(table, j), Plain(10000, 64, j) / 4, 1e-7);
}

TEST(RotaryTableTest, DynamicFixesTheBaseForTheLongestSequence) {
  const RotaryTable within = BuildRotaryTable(Spec("dynamic", 2.0, 2048), 2048).value();
  for (int j = 0; j < 32; ++j) EXPECT_NEAR(Frequency(within, j), Plain(10000, 64, j), 1e-7);
  const RotaryTable beyond = BuildRotaryTable(Spec("dynamic", 2.0, 2048), 8192).value();
  const double base = 10000 * std::pow(2.0 * 8192 / 2048 - 1, 64.0 / 62);
  for (int j = 0; j < 32; ++j) EXPECT_NEAR(Frequency(beyond, j), Plain(base, 64, j), 1e-7);
}

TEST(RotaryTableTest, Llama3) {
  RotarySpec spec = Spec("llama3", 8.0, 8192);
  spec.base = 500000;
  spec.scaling.low_freq_factor = 1.0;
  spec.scaling.high_freq_factor = 4.0;
  const RotaryTable table = BuildRotaryTable(spec, 8).value();
  int kept = 0, scaled = 0, blended = 0;
  for (int j = 0; j < 32; ++j) {
    const double f = Plain(500000, 64, j);
    const double turns = 8192 * f / (2 * M_PI);  // in the original context
    double want = f;
    if (turns < 1)
      want = f / 8, ++scaled;
    else if (turns > 4)
      ++kept;
    else
      want = f / 8 + (turns - 1) / 3 * (f - f / 8), ++blended;
    EXPECT_NEAR(Frequency(table, j), want, 1e-6 * want + 1e-9) << j;
  }
  EXPECT_TRUE(kept > 0 && scaled > 0 && blended > 0);
}

TEST(RotaryTableTest, Yarn) {
  const RotaryTable table = BuildRotaryTable(Spec("yarn", 16.0, 4096), 8).value();
  const auto dimension = [](double turns) {
    return 64 * std::log(4096 / (turns * 2 * M_PI)) / (2 * std::log(10000.0));
  };
  const double low = std::floor(dimension(32)), high = std::ceil(dimension(1));
  for (int j = 0; j < 32; ++j) {
    const double f = Plain(10000, 64, j);
    const double ramp = std::min(1.0, std::max(0.0, (j - low) / (high - low)));
    EXPECT_NEAR(Frequency(table, j), f * (1 - ramp) + f / 16 * ramp, 1e-6 * f + 1e-9) << j;
    EXPECT_NEAR(Amplitude(table, j), 0.1 * std::log(16.0) + 1, 1e-6);
  }
  RotarySpec equal = Spec("yarn", 16.0, 4096);
  equal.scaling.mscale = equal.scaling.mscale_all_dim = 0.7;
  EXPECT_NEAR(Amplitude(BuildRotaryTable(equal, 8).value(), 0), 1.0, 1e-6);
}

TEST(RotaryTableTest, LongRopeChoosesItsFactorsByTheLongestSequence) {
  RotarySpec spec = Spec("longrope", 1.0, 4096);
  spec.max_position_embeddings = 131072;
  for (int j = 0; j < 32; ++j) {
    spec.scaling.short_factor.push_back(1.0 + 0.01 * j);
    spec.scaling.long_factor.push_back(2.0 + j);
  }
  const RotaryTable near = BuildRotaryTable(spec, 4096).value();
  const RotaryTable far = BuildRotaryTable(spec, 4097).value();
  const double amplitude = std::sqrt(1 + std::log(32.0) / std::log(4096.0));
  for (int j = 0; j < 32; ++j) {
    const double f = Plain(10000, 64, j);
    EXPECT_NEAR(Frequency(near, j), f / (1.0 + 0.01 * j), 1e-6 * f + 1e-9);
    EXPECT_NEAR(Frequency(far, j), f / (2.0 + j), 1e-6 * f + 1e-9);
    EXPECT_NEAR(Amplitude(near, j), amplitude, 1e-6);
  }
}

TEST(RotaryTableTest, Refusals) {
  const auto refused = [](RotarySpec spec, int max_position = 8) {
    return BuildRotaryTable(spec, max_position).status().code() == StatusCode::kInvalidArgument;
  };
  EXPECT_TRUE(refused(Spec("ntk", 2.0, 2048)));
  EXPECT_TRUE(refused(Spec("linear", 0.0, 2048)));
  EXPECT_TRUE(refused(Spec("linear", -1.0, 2048)));
  EXPECT_TRUE(refused(Spec("yarn", NAN, 2048)));
  EXPECT_TRUE(refused(Spec("dynamic", 2.0, 0)));
  EXPECT_TRUE(refused(Spec("longrope", 2.0, 2048)));  // no factors
  EXPECT_TRUE(refused(Spec("none", 1.0, 0), 0));
  EXPECT_TRUE(refused(Spec("none", 1.0, 0), 2000000000));
  RotarySpec odd = Spec("none", 1.0, 0);
  odd.rotary_dim = 63;
  EXPECT_TRUE(refused(odd));
  RotarySpec bands = Spec("llama3", 8.0, 8192);
  bands.scaling.low_freq_factor = bands.scaling.high_freq_factor;
  EXPECT_TRUE(refused(bands));
  RotarySpec base = Spec("none", 1.0, 0);
  base.base = 0.0;
  EXPECT_TRUE(refused(base));
  RotarySpec tiny = Spec("dynamic", 2.0, 2048);
  tiny.rotary_dim = 2;
  EXPECT_TRUE(refused(tiny));
}

}  // namespace
}  // namespace trireme::kernels
