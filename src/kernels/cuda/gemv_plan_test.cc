// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/gemv_plan.h"

#include <gtest/gtest.h>

#include <random>

namespace trireme::cuda {
namespace {

constexpr int kNumSms = 132;
constexpr int kMaxSharedBytes = 227 * 1024;   // of one block
constexpr int kSharedBytesOfSm = 228 * 1024;  // with 1 KB of overhead for each block
constexpr GemvConfig kConfigs[] = {{8, 5, 0}, {16, 2, 0}, {16, 3, 0}};

GemvParams Params(int out, int in, int rows, bool fp8) {
  static const int operand = 0;  // only looked at for being there
  GemvParams params;
  params.out_features = out;
  params.in_features = in;
  params.num_rows = rows;
  params.weight = fp8 ? Element::kFloat8E4M3 : Element::kBFloat16;
  params.w = &operand;
  return params;
}

void CheckPlan(const GemvParams& params, const GemvConfig& config, const GemvPlan& plan) {
  const int chunk_values = params.weight == Element::kFloat8E4M3 ? 128 : 64;
  EXPECT_GE(plan.num_tiles * kGemvTileRows, params.out_features);
  EXPECT_GE(plan.num_chunks * chunk_values, params.in_features);
  EXPECT_EQ(plan.phase_chunks % config.warps, 0);
  EXPECT_GE(plan.num_phases * plan.phase_chunks, plan.num_chunks);
  EXPECT_LT((plan.num_phases - 1) * plan.phase_chunks, plan.num_chunks);
  EXPECT_LE(plan.num_blocks, kNumSms);
  EXPECT_LT(plan.longer_blocks, plan.num_blocks);
  EXPECT_EQ(plan.num_blocks * plan.block_tiles + plan.longer_blocks, plan.num_tiles);
  const int block_tiles = plan.block_tiles + (plan.longer_blocks > 0 ? 1 : 0);
  EXPECT_EQ(plan.block_rows, block_tiles * kGemvTileRows);
  if (plan.num_phases > 1) {
    EXPECT_EQ(plan.group_tiles, block_tiles) << "partial sums must live through all phases";
    EXPECT_EQ(params.gamma, nullptr) << "a norm needs whole rows";
  }
  const int ring = config.depth * config.warps * 32 * 64;
  const int gamma = params.gamma != nullptr ? params.in_features * 2 : 0;
  const int bias = params.bias != nullptr ? plan.block_rows * 2 : 0;
  const int residual = params.residual != nullptr ? plan.block_rows * params.num_rows * 2 : 0;
  EXPECT_GE(plan.gamma_offset, ring);
  EXPECT_GE(plan.bias_offset, plan.gamma_offset + gamma);
  EXPECT_GE(plan.residual_offset, plan.bias_offset + bias);
  EXPECT_GE(plan.x_offset, plan.residual_offset + residual);
  EXPECT_GE(plan.x_row_bytes, plan.phase_chunks * chunk_values * 2);
  EXPECT_GE(plan.partial_offset, plan.x_offset + params.num_rows * plan.x_row_bytes);
  EXPECT_GE(plan.squares_offset, plan.partial_offset + plan.group_tiles * config.warps *
                                                           params.num_rows * kGemvTileRows * 4);
  EXPECT_GE(plan.shared_bytes, plan.squares_offset + config.warps * 4);
  EXPECT_LE(plan.shared_bytes, kMaxSharedBytes);
  EXPECT_GT(2 * (plan.shared_bytes + 1024), kSharedBytesOfSm) << "two blocks would share one";
  for (const int offset : {plan.gamma_offset, plan.bias_offset, plan.residual_offset, plan.x_offset,
                           plan.x_row_bytes, plan.partial_offset, plan.squares_offset}) {
    EXPECT_EQ(offset % 16, 0);
  }
}

TEST(GemvPlanTest, PartsOfSharedMemoryNeverOverlap) {
  std::mt19937 random(5);
  static const int operand = 0;
  int planned = 0;
  for (int i = 0; i < 20000; ++i) {
    const bool fp8 = random() % 2 == 0;
    const int unit = fp8 ? 16 : 8;
    GemvParams params = Params(16 * (1 + static_cast<int>(random() % 4000)),
                               unit * (1 + static_cast<int>(random() % 3000)),
                               1 + static_cast<int>(random() % kMaxGemvRows), fp8);
    params.gated = random() % 3 == 0;
    if (random() % 2 == 0) params.gamma = &operand;
    if (!params.gated && random() % 2 == 0) params.bias = &operand;
    if (!params.gated && random() % 2 == 0) params.residual = &operand;
    const GemvConfig& config = kConfigs[random() % std::size(kConfigs)];
    GemvPlan plan;
    if (!MakeGemvPlan(params, config, kNumSms, &plan)) continue;
    ++planned;
    SCOPED_TRACE(::testing::Message() << params.out_features << " x " << params.in_features
                                      << ", rows " << params.num_rows << ", fp8 " << fp8);
    CheckPlan(params, config, plan);
    if (::testing::Test::HasFailure()) return;
  }
  EXPECT_GT(planned, 10000);
}

TEST(GemvPlanTest, EveryShapeOfAnEightBillionModelHasAPlan) {
  for (const bool fp8 : {false, true}) {
    for (int rows = 1; rows <= kMaxGemvRows; ++rows) {
      for (const auto& [out, in] :
           {std::pair{6144, 4096}, {4096, 4096}, {28672, 4096}, {4096, 14336}, {128256, 4096}}) {
        GemvPlan plan;
        EXPECT_TRUE(MakeGemvPlan(Params(out, in, rows, fp8), kConfigs[0], kNumSms, &plan))
            << out << " x " << in << " rows " << rows;
      }
    }
  }
}

}  // namespace
}  // namespace trireme::cuda
