// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/paged_attention.h"

#include <gtest/gtest.h>

#include "kernels/cuda/attention_testing.h"

namespace trireme::cuda {
namespace {

// Probabilities and results are rounded to the activations' type, each by half a unit in the last
// place of at most `magnitude`; scores' float32 error adds less than as much again.
double Tolerance(Element dtype) { return dtype == Element::kBFloat16 ? 0x1p-7 : 0x1p-10; }

// The step through RopeKvWrite, the plan and PagedAttention, or fused.
std::vector<uint16_t> RunStep(const AttentionCase& c, AttentionCase::Device& device, bool fused,
                              bool generic_prefill = false) {
  LaunchContext context;
  PagedAttentionParams attention = c.Attention(device);
  attention.generic_prefill = generic_prefill;
  DeviceArray<unsigned char> workspace(
      static_cast<size_t>(PagedAttentionWorkspaceBytes(attention, context)));
  attention.workspace = workspace.data();
  EXPECT_EQ(PlanPagedAttention(attention, context), cudaSuccess);
  if (fused) {
    EXPECT_EQ(RopePagedAttention(c.Rope(device), attention, context), cudaSuccess);
    EXPECT_EQ(context.num_launches, attention.step.max_query == 1 ? 2 : 4);
  } else {
    EXPECT_EQ(RopeKvWrite(c.Rope(device), context), cudaSuccess);
    EXPECT_EQ(PagedAttention(attention, context), cudaSuccess);
  }
  return device.out.Read();
}

void ExpectNear(const AttentionShape& shape, const AttentionCase& c,
                const AttentionCase::Expected& expected, const std::vector<uint16_t>& out) {
  double worst = 0;
  size_t at = 0;
  for (size_t i = 0; i < expected.out.size(); ++i) {
    const double error = std::fabs(double{Decode(shape.dtype, out[i])} - expected.out[i]) /
                         (expected.magnitude[i] + 1e-6);
    if (!(error <= worst)) {
      worst = error;
      at = i;
    }
  }
  EXPECT_LE(worst, Tolerance(shape.dtype))
      << "row " << at / c.q_width() << " element " << at % c.q_width() << ": "
      << Decode(shape.dtype, out[at]) << " for " << expected.out[at];
  for (size_t i = expected.out.size(); i < out.size(); ++i) {
    ASSERT_EQ(out[i], 0xffff) << "a row beyond the count was written";
  }
}

void Check(const AttentionShape& shape, const std::vector<SequenceSpec>& sequences) {
  const AttentionCase c(shape, sequences);
  const AttentionCase::Expected expected = c.Reference();
  AttentionCase::Device device(c);
  const std::vector<uint16_t> out = RunStep(c, device, false);
  ExpectNear(shape, c, expected, out);
  AttentionCase::Device again(c);
  EXPECT_EQ(RunStep(c, again, false), out) << "the same step gave other bits";
  AttentionCase::Device fused(c);
  EXPECT_EQ(RunStep(c, fused, true), out) << "the fused launch gave other bits";
  EXPECT_EQ(fused.pool.Read(), device.pool.Read()) << "the fused launch wrote another cache";
}

const std::vector<SequenceSpec> kDecode = {{0, 1},  {1, 1},   {15, 1},  {16, 1}, {63, 1},
                                           {64, 1}, {200, 1}, {517, 1}, {31, 1}};
const std::vector<SequenceSpec> kMixed = {{0, 1},  {300, 1}, {0, 3},    {70, 130},
                                          {0, 77}, {5, 1},   {129, 40}, {63, 2}};

struct Types {
  Element dtype;
  Element cache;
};
constexpr Types kTypes[] = {{Element::kBFloat16, Element::kBFloat16},
                            {Element::kFloat16, Element::kFloat16},
                            {Element::kBFloat16, Element::kFloat8E4M3},
                            {Element::kFloat16, Element::kFloat8E4M3}};

TEST(PagedAttentionGpuTest, EveryTypeAndHeadDim) {
  for (const Types& types : kTypes) {
    for (const int head_dim : {16, 64, 80, 96, 128, 256}) {
      SCOPED_TRACE(testing::Message()
                   << "head_dim " << head_dim << " cache " << static_cast<int>(types.cache));
      const bool scaled = types.cache == Element::kFloat8E4M3;
      const AttentionShape shape = {.dtype = types.dtype,
                                    .cache = types.cache,
                                    .num_heads = 4,
                                    .num_kv_heads = 1,
                                    .head_dim = head_dim,
                                    .rotary_dim = head_dim,
                                    .k_scale = scaled ? 0.03f : 1.0f,
                                    .v_scale = scaled ? 0.05f : 1.0f};
      Check(shape, kDecode);
      Check(shape, {{70, 150}, {9, 1}, {0, 5}});
    }
  }
}

TEST(PagedAttentionGpuTest, EveryGroupAndBlockSize) {
  for (const int group : {1, 3, 7, 8, 16, 20}) {
    for (const int block_size : {16, 32, 128}) {
      SCOPED_TRACE(testing::Message() << "group " << group << " block " << block_size);
      const AttentionShape shape = {.num_heads = 2 * group,
                                    .num_kv_heads = 2,
                                    .head_dim = 64,
                                    .block_size = block_size,
                                    .rotary_dim = 64};
      Check(shape, kDecode);
      if (block_size == 32) Check(shape, kMixed);
    }
  }
}

TEST(PagedAttentionGpuTest, WindowSoftCapAlibi) {
  for (const int window : {1, 16, 100}) {
    SCOPED_TRACE(testing::Message() << "window " << window);
    AttentionShape shape = {.head_dim = 64, .block_size = 16, .rotary_dim = 64, .window = window};
    Check(shape, kDecode);
    Check(shape, kMixed);
    shape.soft_cap = 5.0f;
    Check(shape, kDecode);
  }
  Check({.head_dim = 64, .rotary_dim = 64, .soft_cap = 2.0f}, kMixed);
  Check({.head_dim = 64, .style = RotaryStyle::kNone, .rotary_dim = 0, .alibi = true}, kMixed);
  Check({.head_dim = 64, .style = RotaryStyle::kNone, .rotary_dim = 0, .alibi = true}, kDecode);
}

TEST(PagedAttentionGpuTest, LongSequencesAreSharedByManyWorkers) {
  Check({.num_heads = 4, .num_kv_heads = 1}, {{5000, 1}});
  Check({.num_heads = 8, .num_kv_heads = 2}, {{3000, 1}, {10, 1}, {1500, 1}, {0, 1}});
}

// Llama's heads over an FP8 cache: the shapes that are tuned.
AttentionShape Float8Shape(int block_size) {
  return {.cache = Element::kFloat8E4M3,
          .num_heads = 32,
          .num_kv_heads = 8,
          .block_size = block_size,
          .k_scale = 0.03f,
          .v_scale = 0.05f};
}

TEST(PagedAttentionGpuTest, Float8AtEveryBlockSize) {
  for (const int block_size : {16, 32, 64, 128, 256}) {
    SCOPED_TRACE(testing::Message() << "block " << block_size);
    Check(Float8Shape(block_size), {{139, 1}, {0, 1}, {255, 1}, {256, 1}, {1000, 1}});
    Check(Float8Shape(block_size), {{0, 300}, {139, 1}, {257, 129}, {0, 1}, {128, 31}, {5, 3}});
  }
}

TEST(PagedAttentionGpuTest, Float8WindowSoftCapAlibi) {
  for (const int window : {0, 1, 100, 300}) {
    SCOPED_TRACE(testing::Message() << "window " << window);
    AttentionShape shape = Float8Shape(16);
    shape.num_heads = 8;
    shape.num_kv_heads = 2;
    shape.window = window;
    Check(shape, kDecode);
    Check(shape, {{0, 300}, {290, 150}, {139, 1}, {0, 77}});
    shape.soft_cap = 3.0f;
    Check(shape, kMixed);
    shape.style = RotaryStyle::kNone;
    shape.alibi = true;
    Check(shape, kMixed);
  }
}

TEST(PagedAttentionGpuTest, GenericPrefillAgrees) {
  for (const Types& types : kTypes) {
    AttentionShape shape = {.dtype = types.dtype, .cache = types.cache};
    if (types.cache == Element::kFloat8E4M3) shape.k_scale = shape.v_scale = 0.04f;
    const AttentionCase c(shape, kMixed);
    AttentionCase::Device device(c);
    ExpectNear(shape, c, c.Reference(), RunStep(c, device, false, true));
  }
}

TEST(PagedAttentionGpuTest, EveryRotaryStyle) {
  for (const Types& types : kTypes) {
    for (const RotaryStyle style : {RotaryStyle::kNeox, RotaryStyle::kGptj}) {
      for (const int rotary_dim : {2, 40, 64}) {
        SCOPED_TRACE(testing::Message()
                     << "style " << static_cast<int>(style) << " rotary_dim " << rotary_dim
                     << " cache " << static_cast<int>(types.cache));
        Check({.dtype = types.dtype,
               .cache = types.cache,
               .num_heads = 4,
               .num_kv_heads = 2,
               .head_dim = 80,
               .style = style,
               .rotary_dim = rotary_dim},
              kDecode);
      }
    }
  }
}

// Workers take several items each, and share some.
TEST(PagedAttentionGpuTest, ManyShortItems) {
  std::vector<SequenceSpec> sequences;
  for (int i = 0; i < 400; ++i) sequences.push_back({i * 7 % 45, 1});
  for (const Element cache : {Element::kBFloat16, Element::kFloat8E4M3}) {
    AttentionShape shape = Float8Shape(32);
    shape.cache = cache;
    if (cache == Element::kBFloat16) shape.k_scale = shape.v_scale = 1.0f;
    Check(shape, sequences);
  }
}

TEST(PagedAttentionGpuTest, ManySequences) {
  std::vector<SequenceSpec> sequences;
  for (int i = 0; i < 700; ++i) sequences.push_back({i * 37 % 150, 1});
  Check({.num_heads = 2, .num_kv_heads = 1, .head_dim = 64, .rotary_dim = 64}, sequences);
  for (int i = 0; i < 700; i += 3) sequences[i].query_len = 1 + i % 19;
  Check({.num_heads = 2, .num_kv_heads = 1, .head_dim = 64, .rotary_dim = 64}, sequences);
}

TEST(PagedAttentionGpuTest, RefusesWhatItCannotDo) {
  const AttentionCase c({}, {{3, 1}});
  AttentionCase::Device device(c);
  DeviceArray<unsigned char> workspace(1 << 20);
  LaunchContext context;
  PagedAttentionParams good = c.Attention(device);
  good.workspace = workspace.data();
  const auto refused = [&](auto change) {
    PagedAttentionParams bad = good;
    change(bad);
    EXPECT_EQ(PagedAttention(bad, context), cudaErrorInvalidValue);
  };
  refused([](PagedAttentionParams& p) { p.dtype = Element::kFloat32; });
  refused([](PagedAttentionParams& p) { p.kv.dtype = Element::kInt8; });
  refused([](PagedAttentionParams& p) { p.kv.dtype = Element::kFloat16; });
  refused([](PagedAttentionParams& p) { p.num_heads = 7; });
  refused([](PagedAttentionParams& p) { p.kv.head_dim = 72; });
  refused([](PagedAttentionParams& p) { p.kv.head_dim = 272; });
  refused([](PagedAttentionParams& p) { p.kv.block_size = 8; });
  refused([](PagedAttentionParams& p) { p.kv.block_size = 48; });
  refused([](PagedAttentionParams& p) { p.workspace = nullptr; });
  EXPECT_EQ(context.num_launches, 0);
}

}  // namespace
}  // namespace trireme::cuda
