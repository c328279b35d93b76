// SPDX-License-Identifier: Apache-2.0
#include "kernels/paged_attention.h"

#include <gtest/gtest.h>

#include "kernels/attention_testing.h"

namespace trireme::kernels {
namespace {

// Scores are sums of head_dim products and outputs sums of weights in float32, in another order.
constexpr float kTolerance = 2e-5f;

std::string Name(const AttentionShape& s, Isa isa) {
  return IsaName(isa) + " " + std::string(DTypeName(s.dtype)) + " heads " +
         std::to_string(s.num_heads) + "/" + std::to_string(s.num_kv_heads) + " dim " +
         std::to_string(s.head_dim) + " block " + std::to_string(s.block_size);
}

std::vector<AttentionShape> Shapes() {
  std::vector<AttentionShape> shapes;
  for (DType dtype : {DType::kFloat32, DType::kFloat16, DType::kBFloat16}) {
    shapes.push_back({dtype, 1, 1, 16, 16});
    shapes.push_back({dtype, 14, 2, 32, 64});
    shapes.push_back({dtype, 5, 1, 80, 16});
    shapes.push_back({dtype, 4, 2, 24, 32});  // a head_dim and
    shapes.push_back({dtype, 4, 2, 32, 8});   // a block_size that only the generic variant takes
  }
  shapes.push_back({DType::kBFloat16, 4, 4, 64, 32});
  shapes.push_back({DType::kBFloat16, 8, 4, 96, 128});
  shapes.push_back({DType::kBFloat16, 6, 2, 128, 16});
  shapes.push_back({DType::kBFloat16, 3, 1, 256, 32});
  shapes.push_back({DType::kBFloat16, 50, 1, 32, 32});  // more rows a token than a tile holds
  return shapes;
}

TEST(PagedAttentionTest, AgreesWithReference) {
  ThreadPool pool(3, false);
  const std::vector<float> slopes = {0.5f, 0.25f, 0.7f, 0.1f, 0.3f, 0.9f, 0.02f, 0.6f, 0.4f, 0.8f,
                                     0.5f, 0.25f, 0.7f, 0.1f, 0.3f, 0.9f, 0.02f, 0.6f, 0.4f, 0.8f,
                                     0.5f, 0.25f, 0.7f, 0.1f, 0.3f, 0.9f, 0.02f, 0.6f, 0.4f, 0.8f,
                                     0.5f, 0.25f, 0.7f, 0.1f, 0.3f, 0.9f, 0.02f, 0.6f, 0.4f, 0.8f,
                                     0.5f, 0.25f, 0.7f, 0.1f, 0.3f, 0.9f, 0.02f, 0.6f, 0.4f, 0.8f};
  // A prompt, a chunk over the end of a key tile, and single tokens with context.
  const std::vector<std::vector<StepPart>> steps = {
      {{0, 61}, {1, 1}}, {{0, 9}, {2, 70}, {1, 1}}, {{2, 1}, {0, 1}, {1, 1}}};
  for (const AttentionShape& shape : Shapes()) {
    for (int kind = 0; kind < 4; ++kind) {
      PagedAttentionParams p{.scale = 0.3f};
      if (kind == 1) p.window = 37;
      if (kind == 2) p.soft_cap = 5.0f;
      if (kind == 3) p.alibi_slopes = slopes.data();
      std::vector<std::vector<float>> want;
      CpuContext serial;
      AttentionBench reference(shape, 3, 200);
      for (const auto& step : steps) want.push_back(reference.Run(step, p, serial, true));
      for (Isa isa : HostIsas()) {
        SCOPED_TRACE(Name(shape, isa) + " kind " + std::to_string(kind));
        CpuContext context{&pool, isa};
        AttentionBench bench(shape, 3, 200);
        for (size_t i = 0; i < steps.size(); ++i) {
          ExpectNear(bench.Run(steps[i], p, context), want[i], kTolerance, kTolerance, "out");
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

// The rows of sequence 0, run in chunks of the given lengths, next to other sequences or alone.
std::vector<float> RowsOf(AttentionShape shape, PagedAttentionParams p, CpuContext& context,
                          const std::vector<int>& chunks, bool company) {
  AttentionBench bench(shape, 3, 700);
  std::vector<float> rows;
  for (int chunk : chunks) {
    std::vector<StepPart> parts;
    if (company) parts.push_back({1, 5});
    parts.push_back({0, chunk});
    if (company) parts.push_back({2, 1});
    const std::vector<float> out = bench.Run(parts, p, context);
    const size_t begin = static_cast<size_t>(company ? 5 * bench.q_width() : 0);
    rows.insert(rows.end(), out.begin() + static_cast<std::ptrdiff_t>(begin),
                out.begin() + static_cast<std::ptrdiff_t>(begin) + chunk * bench.q_width());
  }
  return rows;
}

TEST(PagedAttentionTest, BitsDoNotDependOnChunkingBatchBlocksOrThreads) {
  ThreadPool pool(3, false);
  for (Isa isa : HostIsas()) {
    if (isa == Isa::kGeneric) continue;  // one query at a time by construction
    for (const AttentionShape& base : {AttentionShape{DType::kBFloat16, 14, 2, 64, 64},
                                       AttentionShape{DType::kFloat32, 4, 4, 80, 64}}) {
      for (int window : {0, 70}) {
        PagedAttentionParams p{.scale = 0.125f, .window = window};
        CpuContext serial{nullptr, isa}, parallel{&pool, isa};
        const std::vector<float> whole = RowsOf(base, p, serial, {305}, false);
        SCOPED_TRACE(Name(base, isa) + " window " + std::to_string(window));
        EXPECT_TRUE(SameBits(whole, RowsOf(base, p, parallel, {305}, true)));
        EXPECT_TRUE(SameBits(whole, RowsOf(base, p, parallel, {64, 1, 100, 63, 1, 1, 75}, true)));
        std::vector<int> singles(305, 1);
        EXPECT_TRUE(SameBits(whole, RowsOf(base, p, serial, singles, false)));
        for (int block_size : {16, 128}) {
          AttentionShape other = base;
          other.block_size = block_size;
          EXPECT_TRUE(SameBits(whole, RowsOf(other, p, parallel, {200, 105}, false)));
        }
      }
    }
  }
}

// What the reference itself must mean: with no scale every visible value counts alike; with a large
// one the best key's value is the answer.
TEST(PagedAttentionTest, AveragesOrPicksValues) {
  const AttentionShape shape{DType::kFloat32, 2, 1, 16, 16};
  CpuContext context;
  const int len = 90;
  for (int window : {0, 33}) {
    AttentionBench bench(shape, 1, len);
    const std::vector<float> mean =
        bench.Run({{0, len}}, {.scale = 0.0f, .window = window}, context, true);
    const std::vector<float> data(bench.qkv(), bench.qkv() + len * bench.width());
    AttentionBench again(shape, 1, len);
    const std::vector<float> picked =
        again.Run({{0, len}}, {.scale = 1e4f, .window = window}, context, true);
    for (int t : {0, 1, 17, 33, 89}) {
      const int first = window > 0 ? std::max(0, t - window + 1) : 0;
      for (int head = 0; head < 2; ++head) {
        const float* q = &data[static_cast<size_t>(t * bench.width() + head * 16)];
        std::vector<double> sum(16);
        int best = first;
        double best_score = -1e30;
        for (int j = first; j <= t; ++j) {
          const float* k = &data[static_cast<size_t>(j * bench.width() + 32)];
          double score = 0.0;
          for (size_t i = 0; i < 16; ++i) {
            score += static_cast<double>(q[i]) * k[i];
            sum[i] += k[16 + i];
          }
          if (score > best_score) best = j, best_score = score;
        }
        for (size_t i = 0; i < 16; ++i) {
          const size_t at = static_cast<size_t>(t * 32 + head * 16) + i;
          EXPECT_NEAR(mean[at], sum[i] / (t - first + 1), 1e-5);
          EXPECT_NEAR(picked[at], data[static_cast<size_t>(best * bench.width() + 48) + i], 1e-5);
        }
      }
    }
  }
}

TEST(PagedAttentionTest, ThreadsShareLongContexts) {
  ThreadPool pool(4, false);
  for (Isa isa : HostIsas()) {
    if (isa == Isa::kGeneric) continue;  // has no spans, and 20 million scores to compute
    const AttentionShape shape{DType::kBFloat16, 7, 1, 32, 64};
    for (int window : {0, 3000}) {
      PagedAttentionParams p{.scale = 0.2f, .window = window};
      CpuContext serial{nullptr, isa}, parallel{&pool, isa};
      AttentionBench a(shape, 2, 5000), b(shape, 2, 5000), c(shape, 2, 5000);
      const std::vector<StepPart> fill = {{0, 4600}, {1, 33}};
      const std::vector<float> filled = a.Run(fill, p, serial);
      EXPECT_TRUE(SameBits(filled, b.Run(fill, p, parallel)));
      c.Begin(fill);
      c.pool() = a.pool();
      for (int query_len : {1, 3}) {
        const std::vector<StepPart> decode = {{0, query_len}, {1, 1}};
        const std::vector<float> alone = a.Run(decode, p, serial);
        EXPECT_TRUE(SameBits(alone, b.Run(decode, p, parallel))) << IsaName(isa);
        ExpectNear(alone, c.Run(decode, p, serial, true), kTolerance, kTolerance, IsaName(isa));
      }
    }
  }
}

TEST(PagedAttentionTest, WindowNeverReadsBlocksItLeft) {
  for (Isa isa : HostIsas()) {
    const AttentionShape shape{DType::kFloat32, 2, 1, 16, 16};
    CpuContext context{nullptr, isa};
    PagedAttentionParams p{.scale = 0.25f, .window = 20};
    AttentionBench kept(shape, 1, 200), dropped(shape, 1, 200);
    kept.Run({{0, 150}}, p, context);
    dropped.Run({{0, 150}}, p, context);
    dropped.DropBlocksBefore(0, 150 - 20 + 1);
    const std::vector<float> want = kept.Run({{0, 3}}, p, context);
    EXPECT_TRUE(SameBits(want, dropped.Run({{0, 3}}, p, context))) << IsaName(isa);
    for (float value : want) EXPECT_TRUE(std::isfinite(value));
  }
}

TEST(PagedAttentionTest, MayWriteOverItsQueries) {
  ThreadPool pool(2, false);
  for (Isa isa : HostIsas()) {
    const AttentionShape shape{DType::kBFloat16, 4, 2, 64, 32};
    CpuContext context{&pool, isa};
    AttentionBench bench(shape, 1, 100);
    const std::vector<float> want = bench.Run({{0, 77}}, {.scale = 0.1f}, context);
    AttentionBench again(shape, 1, 100);
    const StepView step = again.Begin({{0, 77}});
    std::vector<float> q(static_cast<size_t>(77 * again.q_width()));
    RopeKvWrite({.qkv = again.qkv(),
                 .qkv_stride = again.width(),
                 .num_heads = 4,
                 .q = q.data(),
                 .q_stride = again.q_width(),
                 .step = step,
                 .kv = again.kv(),
                 .layer = 1},
                context);
    std::vector<float> workspace(
        static_cast<size_t>(PagedAttentionWorkspaceBytes(again.kv().layout, 4, 1, 2) / 4));
    PagedAttention({.q = q.data(),
                    .q_stride = again.q_width(),
                    .num_heads = 4,
                    .scale = 0.1f,
                    .out = q.data(),
                    .out_stride = again.q_width(),
                    .step = step,
                    .kv = again.kv(),
                    .layer = 1,
                    .workspace = reinterpret_cast<std::byte*>(workspace.data())},
                   context);
    EXPECT_TRUE(SameBits(want, q)) << IsaName(isa);
  }
}

}  // namespace
}  // namespace trireme::kernels
