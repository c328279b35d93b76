// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/decode_region_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace trireme::cuda {
namespace {

constexpr int kNumSms = 132;

DecodeRegionParams Params(int hidden, int intermediate, int heads, int kv_heads, int head_dim,
                          bool fp8, int rows) {
  DecodeRegionParams params;
  params.weight = fp8 ? Element::kFloat8E4M3 : Element::kBFloat16;
  params.num_layers = 32;
  params.hidden_size = hidden;
  params.intermediate_size = intermediate;
  params.num_heads = heads;
  params.kv.num_kv_heads = kv_heads;
  params.kv.head_dim = head_dim;
  params.num_rows = rows;
  return params;
}

void CheckPlan(const DecodeRegionParams& params, const DecodeRegionPlan& plan) {
  EXPECT_LE(plan.shared_bytes, 227 * 1024);
  EXPECT_GE(plan.slots, kRegionWarps);
  EXPECT_GE(plan.x_offset, plan.slots * plan.slot_bytes);
  EXPECT_GE(plan.squares_offset, plan.partial_offset);
  EXPECT_EQ(plan.shared_bytes, plan.barriers_offset + plan.slots * 16);
  for (const int offset : {plan.x_offset, plan.x_row_bytes, plan.partial_offset}) {
    EXPECT_EQ(offset % 16, 0);
  }
  EXPECT_EQ(plan.barriers_offset % 8, 0);
  for (const RegionProduct& product : plan.products) {
    const int pairs = product.gated ? product.out_features : product.out_features / 2;
    EXPECT_EQ(product.block_pairs * plan.num_blocks + product.longer_blocks, pairs);
    EXPECT_LT(product.longer_blocks, plan.num_blocks);
    EXPECT_LE(2 * product.part_bytes, plan.slot_bytes);
    EXPECT_EQ(product.part_bytes % 16, 0);
    EXPECT_GE(product.parts * product.part_bytes, product.row_bytes);
    EXPECT_LT((product.parts - 1) * product.part_bytes, product.row_bytes);
    EXPECT_LE(params.num_rows * product.in_features * 2, plan.partial_offset - plan.x_offset);
    const int most_pairs = product.block_pairs + (product.longer_blocks > 0 ? 1 : 0);
    EXPECT_LE(most_pairs * product.parts * 2 * params.num_rows * 4,
              plan.squares_offset - plan.partial_offset);
  }
  const int groups = params.num_rows * params.kv.num_kv_heads * plan.head_blocks;
  EXPECT_LE(kRegionDoneOffset + groups * 4, plan.partials_offset);
  EXPECT_GE(plan.workspace_bytes,
            plan.partials_offset + int64_t{groups} * plan.max_splits * plan.partial_floats * 4);
}

TEST(DecodeRegionPlanTest, PublishedShapes) {
  for (const bool fp8 : {false, true}) {
    for (const int rows : {1, 2, 4}) {
      for (const DecodeRegionParams& params :
           {Params(4096, 14336, 32, 8, 128, fp8, rows), Params(4096, 11008, 32, 32, 128, fp8, rows),
            Params(2048, 8192, 32, 8, 64, fp8, rows), Params(896, 4864, 14, 2, 64, fp8, rows),
            Params(64, 176, 4, 2, 16, fp8, rows)}) {
        SCOPED_TRACE(testing::Message() << params.hidden_size << " rows " << rows);
        DecodeRegionPlan plan;
        ASSERT_TRUE(MakeDecodeRegionPlan(params, {}, kNumSms, &plan));
        CheckPlan(params, plan);
      }
    }
  }
}

// The workspace outlives a change of num_rows: its counters lie at the same place for all.
TEST(DecodeRegionPlanTest, OneWorkspaceForAllRows) {
  DecodeRegionPlan one;
  DecodeRegionPlan four;
  ASSERT_TRUE(MakeDecodeRegionPlan(Params(4096, 14336, 32, 8, 128, false, 1), {}, kNumSms, &one));
  ASSERT_TRUE(MakeDecodeRegionPlan(Params(4096, 14336, 32, 8, 128, false, 4), {}, kNumSms, &four));
  EXPECT_EQ(one.workspace_bytes, four.workspace_bytes);
  EXPECT_EQ(one.partials_offset, four.partials_offset);
}

TEST(DecodeRegionPlanTest, RingOfTheLlama8BShape) {
  DecodeRegionPlan plan;
  ASSERT_TRUE(MakeDecodeRegionPlan(Params(4096, 14336, 32, 8, 128, false, 1), {}, kNumSms, &plan));
  EXPECT_GE(plan.slots * plan.slot_bytes, 180 * 1024) << "some 6 us of the memory's bandwidth";
  EXPECT_EQ(plan.max_splits, 16);
}

TEST(DecodeRegionPlanTest, RefusesWhatDoesNotFit) {
  DecodeRegionPlan plan;
  const DecodeRegionParams good = Params(4096, 14336, 32, 8, 128, false, 1);
  EXPECT_TRUE(MakeDecodeRegionPlan(good, {}, kNumSms, &plan));
  EXPECT_FALSE(MakeDecodeRegionPlan(good, {.slot_bytes = 1000}, kNumSms, &plan));
  EXPECT_FALSE(MakeDecodeRegionPlan(good, {.slot_bytes = 65536}, kNumSms, &plan));
  EXPECT_FALSE(MakeDecodeRegionPlan(good, {.chunks_in_flight = 0}, kNumSms, &plan));
  EXPECT_FALSE(MakeDecodeRegionPlan(good, {}, 0, &plan));
  EXPECT_FALSE(MakeDecodeRegionPlan(Params(20480, 14336, 32, 8, 128, false, 1), {}, kNumSms, &plan))
      << "a norm's values must be held by the threads";
  EXPECT_FALSE(MakeDecodeRegionPlan(Params(8192, 28672, 64, 8, 128, false, 4), {}, kNumSms, &plan))
      << "x and the ring must fit";
  EXPECT_FALSE(MakeDecodeRegionPlan(Params(4096, 14336, 32, 5, 128, false, 1), {}, kNumSms, &plan));
  EXPECT_FALSE(MakeDecodeRegionPlan(Params(4100, 14336, 32, 8, 128, false, 1), {}, kNumSms, &plan));
}

}  // namespace
}  // namespace trireme::cuda
