// SPDX-License-Identifier: Apache-2.0
#include "kernels/rope_kv_write.h"

#include <gtest/gtest.h>

#include "kernels/attention_testing.h"
#include "kernels/rotary_table.h"
#include "tensor/float_formats.h"

namespace trireme::kernels {
namespace {

struct Rotation {
  RotaryStyle style;
  int rotary_dim;
};

RopeKvWriteParams Params(AttentionBench& bench, const StepView& step, const Rotation& rotation,
                         const RotaryTable& table, float* q) {
  return {.qkv = bench.qkv(),
          .qkv_stride = bench.width(),
          .num_heads = bench.shape().num_heads,
          .style = rotation.style,
          .rotary_dim = rotation.rotary_dim,
          .cos = table.cos.data(),
          .sin = table.sin.data(),
          .q = q,
          .q_stride = bench.q_width(),
          .step = step,
          .kv = bench.kv(),
          .layer = 1};
}

TEST(RopeKvWriteTest, EveryVariantHasTheReferencesBits) {
  ThreadPool pool(3, false);
  for (DType dtype : {DType::kFloat32, DType::kFloat16, DType::kBFloat16}) {
    for (int head_dim : {16, 24, 80, 256}) {
      for (const Rotation& rotation :
           {Rotation{RotaryStyle::kNone, 0}, Rotation{RotaryStyle::kNeox, head_dim},
            Rotation{RotaryStyle::kNeox, head_dim / 2}, Rotation{RotaryStyle::kGptj, head_dim},
            Rotation{RotaryStyle::kGptj, head_dim / 4 / 2 * 2}}) {
        const RotaryTable table =
            BuildRotaryTable({.rotary_dim = std::max(2, rotation.rotary_dim)}, 300).value();
        for (Isa isa : HostIsas()) {
          for (int block_size : {8, 32}) {
            SCOPED_TRACE(IsaName(isa) + " " + std::string(DTypeName(dtype)) + " dim " +
                         std::to_string(head_dim) + " block " + std::to_string(block_size));
            const AttentionShape shape{dtype, 3, 2, head_dim, block_size};
            AttentionBench got(shape, 3, 150), want(shape, 3, 150);
            CpuContext context{&pool, isa};
            for (const std::vector<StepPart>& parts :
                 {std::vector<StepPart>{{0, 37}, {1, 1}, {2, 5}}, {{2, 21}, {0, 1}, {1, 16}}}) {
              const StepView step = got.Begin(parts);
              GuardedFloats q(step.num_tokens * got.q_width()), want_q(q.size());
              RopeKvWrite(Params(got, step, rotation, table, q.data()), context);
              RopeKvWriteReference(Params(want, want.Begin(parts), rotation, table, want_q.data()));
              ASSERT_TRUE(SameBits(q.values(), want_q.values()));
              ASSERT_TRUE(q.GuardsIntact());
              // Unwritten slots and the other layer keep their poison.
              ASSERT_TRUE(got.pool() == want.pool());
            }
          }
        }
      }
    }
  }
}

// The rotation by hand: element pairs, angle, and where a token lies in the cache.
TEST(RopeKvWriteTest, RotatesPairsByTheirAngle) {
  for (RotaryStyle style : {RotaryStyle::kNeox, RotaryStyle::kGptj}) {
    const AttentionShape shape{DType::kFloat32, 1, 1, 16, 16, 2};
    AttentionBench bench(shape, 1, 64);
    const RotaryTable table = BuildRotaryTable({.rotary_dim = 8, .base = 100.0}, 64).value();
    const StepView step = bench.Begin({{0, 40}});
    std::vector<float> q(40 * 16);
    RopeKvWriteReference(Params(bench, step, {style, 8}, table, q.data()));
    for (int t : {0, 1, 17, 39}) {
      const float* x = bench.qkv() + t * bench.width();
      for (int j = 0; j < 4; ++j) {
        const int a = style == RotaryStyle::kNeox ? j : 2 * j;
        const int b = style == RotaryStyle::kNeox ? j + 4 : 2 * j + 1;
        const double angle = t * std::pow(100.0, -2.0 * j / 8);
        EXPECT_NEAR(q[static_cast<size_t>(t * 16 + a)],
                    x[a] * std::cos(angle) - x[b] * std::sin(angle), 1e-5);
        EXPECT_NEAR(q[static_cast<size_t>(t * 16 + b)],
                    x[b] * std::cos(angle) + x[a] * std::sin(angle), 1e-5);
      }
      const KvLayout& layout = bench.kv().layout;
      const int64_t block = step.block_tables[t / 16];
      const float* v =
          reinterpret_cast<const float*>(bench.pool().data() + layout.Offset(block, 1, true, 0));
      const float* k =
          reinterpret_cast<const float*>(bench.pool().data() + layout.Offset(block, 1, false, 0));
      for (int i = 0; i < 16; ++i) EXPECT_EQ(v[t % 16 * 16 + i], x[32 + i]);
      for (int i = 8; i < 16; ++i) {
        EXPECT_EQ(q[static_cast<size_t>(t * 16 + i)], x[i]);
        EXPECT_EQ(k[i * 16 + t % 16], x[16 + i]);
      }
    }
  }
}

// In place: q may be the Q part of qkv itself.
TEST(RopeKvWriteTest, RotatesInPlace) {
  const RotaryTable table = BuildRotaryTable({.rotary_dim = 64}, 64).value();
  for (RotaryStyle style : {RotaryStyle::kNeox, RotaryStyle::kGptj}) {
    for (Isa isa : HostIsas()) {
      CpuContext context{nullptr, isa};
      AttentionBench bench({DType::kBFloat16, 4, 2, 64, 16}, 1, 64);
      const StepView step = bench.Begin({{0, 20}});
      std::vector<float> q(static_cast<size_t>(20 * bench.q_width()));
      RopeKvWriteParams p = Params(bench, step, {style, 64}, table, q.data());
      RopeKvWrite(p, context);
      std::vector<float> qkv(bench.qkv(), bench.qkv() + 20 * bench.width());
      p.qkv = p.q = qkv.data();
      p.q_stride = bench.width();
      RopeKvWrite(p, context);
      for (int t = 0; t < 20; ++t) {
        EXPECT_EQ(std::memcmp(&qkv[static_cast<size_t>(t * bench.width())],
                              &q[static_cast<size_t>(t * bench.q_width())],
                              static_cast<size_t>(bench.q_width()) * 4),
                  0);
      }
    }
  }
}

}  // namespace
}  // namespace trireme::kernels
