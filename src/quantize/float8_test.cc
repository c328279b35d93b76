// SPDX-License-Identifier: Apache-2.0
#include "quantize/float8.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tensor/float_formats.h"

namespace trireme::quantize {
namespace {

HostTensor Weight(const std::vector<float>& values) {
  HostTensor tensor(DType::kFloat32, {static_cast<int64_t>(values.size()), 1});
  std::copy(values.begin(), values.end(), tensor.as<float>());
  return tensor;
}

TEST(Float8Test, EveryValueIsWithinHalfAStepAndTheLargestIsExact) {
  std::vector<float> values;
  for (int i = -500; i <= 500; ++i) values.push_back(0.013f * static_cast<float>(i));
  const HostTensor weight = Weight(values);
  const float scale = Float8Scale(LargestMagnitude(weight.view()).value());
  EXPECT_FLOAT_EQ(scale, 6.5f / 448.0f);
  const HostTensor codes = QuantizeFloat8(weight.view(), scale);
  for (size_t i = 0; i < values.size(); ++i) {
    const float back = LoadAsFloat(codes.view(), static_cast<int64_t>(i)) * scale;
    // Three mantissa bits: half a step is 1/16 of the value; below 2^-6 steps of 2^-9.
    const float bound = std::max(std::fabs(values[i]) / 16.0f, scale * 0x1p-10f);
    EXPECT_LE(std::fabs(back - values[i]), bound * 1.0001f) << values[i];
  }
  EXPECT_FLOAT_EQ(LoadAsFloat(codes.view(), 1000) * scale, 6.5f);
}

TEST(Float8Test, ZerosAndValuesThatAreNoNumbers) {
  const HostTensor zeros = Weight({0.0f, 0.0f});
  EXPECT_EQ(Float8Scale(LargestMagnitude(zeros.view()).value()), 1.0f);
  EXPECT_EQ(LoadAsFloat(QuantizeFloat8(zeros.view(), 1.0f).view(), 1), 0.0f);
  EXPECT_FALSE(LargestMagnitude(Weight({std::nanf("")}).view()).ok());
  EXPECT_FALSE(LargestMagnitude(Weight({std::numeric_limits<float>::infinity()}).view()).ok());
}

}  // namespace
}  // namespace trireme::quantize
