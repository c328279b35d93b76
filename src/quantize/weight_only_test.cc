// SPDX-License-Identifier: Apache-2.0
#include "quantize/weight_only.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "tensor/float_formats.h"

namespace trireme::quantize {
namespace {

using ::testing::ElementsAre;
using Kind = WeightQuant::Kind;

HostTensor Floats(const Shape& shape, const std::vector<float>& values) {
  HostTensor tensor(DType::kFloat32, shape);
  std::copy(values.begin(), values.end(), tensor.as<float>());
  return tensor;
}

TEST(WeightOnlyTest, Int8ByHand) {
  const HostTensor weight = Floats({3, 4}, {128, -128, 64.4f, 0.5f,  //
                                            0, 0, 0, 0,              //
                                            -1, 0.25f, 0.5f, 1});
  auto result = QuantizeWeightOnly(weight.view(), {.kind = Kind::kInt8}, DType::kFloat32);
  ASSERT_TRUE(result.ok()) << result.status().ToString();
  const int8_t* q = result->values.as<int8_t>();
  // +max does not fit the range and is clamped; halves round to even.
  EXPECT_THAT(std::vector<int>(q, q + 12),
              ElementsAre(127, -128, 64, 0, 0, 0, 0, 0, -128, 32, 64, 127));
  const float* scale = result->scales.as<float>();
  EXPECT_THAT(std::vector<float>(scale, scale + 3), ElementsAre(1.0f, 0.0f, 1.0f / 128));
  EXPECT_EQ(result->scales.shape(), Shape({3}));
}

TEST(WeightOnlyTest, Int4PacksTheLowNibbleFirst) {
  const HostTensor weight = Floats({1, 4}, {-8, 7, 1, -1});
  auto result = QuantizeWeightOnly(weight.view(), {.kind = Kind::kInt4}, DType::kFloat32);
  ASSERT_TRUE(result.ok()) << result.status().ToString();
  EXPECT_EQ(result->values.dtype(), DType::kInt8);
  EXPECT_EQ(result->values.shape(), Shape({1, 2}));
  EXPECT_EQ(result->values.as<uint8_t>()[0], 0x78);
  EXPECT_EQ(result->values.as<uint8_t>()[1], 0xf1);
}

TEST(WeightOnlyTest, GroupsHaveTheirOwnScales) {
  const HostTensor weight = Floats({1, 6}, {8, 4, 80, -80, 0.8f, 0});
  auto result =
      QuantizeWeightOnly(weight.view(), {.kind = Kind::kInt4, .group_size = 4}, DType::kFloat32);
  ASSERT_TRUE(result.ok()) << result.status().ToString();
  EXPECT_EQ(result->scales.shape(), Shape({1, 2}));
  EXPECT_FLOAT_EQ(result->scales.as<float>()[0], 10.0f);
  EXPECT_FLOAT_EQ(result->scales.as<float>()[1], 0.1f) << "the last group is shorter";
}

struct Case {
  Kind kind;
  int group_size;
  DType scale_dtype;
  Shape shape;
};

class RoundTripTest : public ::testing::TestWithParam<Case> {};

// A value that is not clamped is off by at most half a step of the stored scale, the largest one
// by a whole step.
TEST_P(RoundTripTest, ErrorIsBoundedByTheStep) {
  const Case& c = GetParam();
  std::mt19937 random(7);
  std::normal_distribution<float> normal(0, 0.02f);
  HostTensor weight(DType::kBFloat16, c.shape);
  for (int64_t i = 0; i < c.shape.num_elements(); ++i) {
    weight.as<bfloat16_t>()[i] = ToBFloat16(normal(random));
  }
  const WeightQuant quant{.kind = c.kind, .group_size = c.group_size};
  auto quantized = QuantizeWeightOnly(weight.view(), quant, c.scale_dtype);
  ASSERT_TRUE(quantized.ok()) << quantized.status().ToString();
  auto restored = Dequantize(quantized->values.view(), quantized->scales.view(), quant, c.shape[1]);
  ASSERT_TRUE(restored.ok()) << restored.status().ToString();
  const int64_t width = c.shape[1];
  const int64_t group = c.group_size == 0 ? width : c.group_size;
  const int64_t num_groups = (width + group - 1) / group;
  int levels_used = 0;
  for (int64_t i = 0; i < c.shape.num_elements(); ++i) {
    const int64_t index = i / width * num_groups + i % width / group;
    const float scale = LoadAsFloat(quantized->scales.view(), index);
    const float value = ToFloat(weight.as<bfloat16_t>()[i]);
    const float limit = scale * static_cast<float>(c.kind == Kind::kInt8 ? 127.5 : 7.5);
    const float bound = std::fabs(value) > limit ? 1.02f * scale : 0.5001f * scale;
    EXPECT_LE(std::fabs((*restored)[static_cast<size_t>(i)] - value), bound) << i;
    levels_used += (*restored)[static_cast<size_t>(i)] != 0;
  }
  EXPECT_GT(levels_used, c.shape.num_elements() / 2);
}

INSTANTIATE_TEST_SUITE_P(All, RoundTripTest,
                         ::testing::Values(Case{Kind::kInt8, 0, DType::kFloat32, {5, 33}},
                                           Case{Kind::kInt8, 0, DType::kBFloat16, {16, 128}},
                                           Case{Kind::kInt8, 32, DType::kFloat16, {3, 100}},
                                           Case{Kind::kInt4, 0, DType::kFloat16, {7, 64}},
                                           Case{Kind::kInt4, 16, DType::kBFloat16, {4, 70}},
                                           Case{Kind::kInt4, 128, DType::kFloat32, {2, 256}},
                                           Case{Kind::kInt4, 6, DType::kFloat32, {2, 8}}));

TEST(WeightOnlyTest, BadInputsAreRefused) {
  const HostTensor good = Floats({2, 4}, {1, 2, 3, 4, 5, 6, 7, 8});
  const WeightQuant int8{.kind = Kind::kInt8};
  EXPECT_FALSE(QuantizeWeightOnly(good.view(), {}, DType::kFloat32).ok());
  EXPECT_FALSE(QuantizeWeightOnly(good.view(), int8, DType::kInt8).ok());
  EXPECT_FALSE(
      QuantizeWeightOnly(HostTensor(DType::kInt32, {2, 2}).view(), int8, DType::kFloat32).ok());
  EXPECT_FALSE(
      QuantizeWeightOnly(HostTensor(DType::kFloat32, {4}).view(), int8, DType::kFloat32).ok());
  EXPECT_FALSE(QuantizeWeightOnly(HostTensor(DType::kFloat32, {2, 3}).view(), {.kind = Kind::kInt4},
                                  DType::kFloat32)
                   .ok());
  EXPECT_FALSE(
      QuantizeWeightOnly(good.view(), {.kind = Kind::kInt8, .group_size = -1}, DType::kFloat32)
          .ok());
  for (const float bad : {std::numeric_limits<float>::infinity(), std::nanf("")}) {
    EXPECT_FALSE(QuantizeWeightOnly(Floats({1, 2}, {1, bad}).view(), int8, DType::kFloat32).ok());
  }
  EXPECT_FALSE(Dequantize(HostTensor(DType::kInt8, {2, 4}).view(),
                          HostTensor(DType::kFloat32, {3}).view(), int8, 4)
                   .ok());
}

TEST(WeightOnlyTest, ScaleThatVanishesInItsDtypeGivesZeros) {
  const HostTensor weight = Floats({1, 2}, {1e-9f, -1e-9f});
  auto result = QuantizeWeightOnly(weight.view(), {.kind = Kind::kInt8}, DType::kFloat16);
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(LoadAsFloat(result->scales.view(), 0), 0.0f);
  EXPECT_EQ(result->values.as<int8_t>()[0], 0);
}

}  // namespace
}  // namespace trireme::quantize
