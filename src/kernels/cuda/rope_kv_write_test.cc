// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/rope_kv_write.h"

#include <gtest/gtest.h>

#include "kernels/cuda/attention_testing.h"

namespace trireme::cuda {
namespace {

// Every element of q and of the cache, and nothing else written.
void Check(const AttentionShape& shape) {
  const AttentionCase c(shape, {{0, 1}, {63, 2}, {17, 33}, {100, 1}});
  AttentionCase::Device device(c);
  const std::vector<uint16_t> before = device.qkv.Read();
  std::vector<unsigned char> pool = device.pool.Read();
  LaunchContext context;
  ASSERT_EQ(RopeKvWrite(c.Rope(device), context), cudaSuccess);
  EXPECT_EQ(context.num_launches, 1);
  const std::vector<uint16_t> after = device.qkv.Read();
  for (size_t i = 0; i < after.size(); ++i) {
    const int token = static_cast<int>(i / c.qkv_width());
    const int column = static_cast<int>(i % c.qkv_width());
    if (token >= c.num_tokens() || column >= c.q_width()) {
      ASSERT_EQ(after[i], before[i]) << "row " << token << " column " << column;
    } else {
      ASSERT_EQ(Decode(shape.dtype, after[i]),
                c.ExpectedQuery(token, column / shape.head_dim, column % shape.head_dim))
          << "row " << token << " column " << column;
    }
  }
  const std::vector<unsigned char> written = device.pool.Read();
  const int bytes = Bytes(shape.cache);
  for (int seq = 0; seq < static_cast<int>(c.sequences().size()); ++seq) {
    for (int i = 0; i < c.sequences()[seq].query_len; ++i) {
      for (int head = 0; head < shape.num_kv_heads; ++head) {
        for (int dim = 0; dim < shape.head_dim; ++dim) {
          const int token = c.first_token(seq) + i;
          const int place = c.context_of(seq) + i;
          const int64_t key = c.PoolIndex(seq, place, false, head, dim);
          const int64_t value = c.PoolIndex(seq, place, true, head, dim);
          ASSERT_EQ(c.PoolValue(written, key), c.ExpectedKey(token, head, dim));
          ASSERT_EQ(c.PoolValue(written, value), c.ExpectedValue(token, head, dim));
          for (const int64_t index : {key, value}) {
            std::memcpy(pool.data() + index * bytes, written.data() + index * bytes, bytes);
          }
        }
      }
    }
  }
  EXPECT_EQ(written, pool) << "another place of the cache was written";
}

TEST(RopeKvWriteGpuTest, EveryStyleDimAndType) {
  for (const Element dtype : {Element::kBFloat16, Element::kFloat16}) {
    for (const Element cache : {dtype, Element::kFloat8E4M3}) {
      for (const RotaryStyle style : {RotaryStyle::kNone, RotaryStyle::kNeox, RotaryStyle::kGptj}) {
        // 20 of 80 takes pairs, the others vectors.
        for (const auto& [head_dim, rotary_dim] :
             {std::pair{128, 128}, {64, 32}, {80, 20}, {256, 64}, {80, 32}}) {
          SCOPED_TRACE(testing::Message() << "style " << static_cast<int>(style) << " head_dim "
                                          << head_dim << " rotary_dim " << rotary_dim);
          Check({.dtype = dtype,
                 .cache = cache,
                 .num_heads = 6,
                 .num_kv_heads = 2,
                 .head_dim = head_dim,
                 .block_size = 32,
                 .style = style,
                 .rotary_dim = style == RotaryStyle::kNone ? 0 : rotary_dim,
                 .k_scale = 0.25f,
                 .v_scale = 0.5f});
        }
      }
    }
  }
}

TEST(RopeKvWriteGpuTest, RefusesWhatItCannotDo) {
  const AttentionCase c({}, {{3, 1}});
  AttentionCase::Device device(c);
  LaunchContext context;
  RopeKvWriteParams p = c.Rope(device);
  p.rotary_dim = 130;
  EXPECT_EQ(RopeKvWrite(p, context), cudaErrorInvalidValue);
  p = c.Rope(device);
  p.kv.head_dim = 12;
  EXPECT_EQ(RopeKvWrite(p, context), cudaErrorInvalidValue);
  p = c.Rope(device);
  p.dtype = Element::kFloat32;
  EXPECT_EQ(RopeKvWrite(p, context), cudaErrorInvalidValue);
  EXPECT_EQ(context.num_launches, 0);
}

}  // namespace
}  // namespace trireme::cuda
