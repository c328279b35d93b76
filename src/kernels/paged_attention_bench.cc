// SPDX-License-Identifier: Apache-2.0
// Paged attention of Qwen2-0.5B (14/2 heads of 64) and Llama-3.1-8B (32/8 heads of 128): decode in
// GB/s of keys and values read, prefill in GFLOP/s; then sampling of one row of 151,936 logits.
//
//   kernels_bench --benchmark_filter='attention/decode.*'
#include <benchmark/benchmark.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/paged_attention.h"
#include "kernels/sampling.h"

namespace trireme::kernels {
namespace {

struct Shape {
  int num_heads, num_kv_heads, head_dim;
};
constexpr Shape kShapes[] = {{14, 2, 64}, {32, 8, 128}};

// `num_seqs` sequences with `context_len` cached tokens and `query_len` new ones, a bfloat16 cache.
class Step {
 public:
  Step(const Shape& shape, int context_len, int query_len, int num_seqs, ThreadPool& pool)
      : shape_(shape), layout_{DType::kBFloat16, 1, shape.num_kv_heads, shape.head_dim, 64} {
    const int max_blocks = (context_len + query_len + 63) / 64;
    pool_.resize(static_cast<size_t>(layout_.block_bytes() * max_blocks * num_seqs / 2), 0x3c00);
    for (int i = 0; i < max_blocks * num_seqs; ++i) tables_.push_back(i);
    for (int s = 0; s <= num_seqs; ++s) cu_.push_back(s * query_len);
    contexts_.assign(static_cast<size_t>(num_seqs), context_len);
    const int64_t width = int64_t{shape.num_heads} * shape.head_dim;
    q_.assign(static_cast<size_t>(num_seqs * query_len * width), 0.01f);
    out_.resize(q_.size());
    workspace_.resize(static_cast<size_t>(
        PagedAttentionWorkspaceBytes(layout_, shape.num_heads, num_seqs, pool.num_threads()) / 4));
    params_ = {.q = q_.data(),
               .q_stride = width,
               .num_heads = shape.num_heads,
               .scale = 0.1f,
               .out = out_.data(),
               .out_stride = width};
    params_.step.num_tokens = num_seqs * query_len;
    params_.step.num_seqs = num_seqs;
    params_.step.cu_query_lens = cu_.data();
    params_.step.context_lens = contexts_.data();
    params_.step.block_tables = tables_.data();
    params_.step.max_blocks_per_seq = max_blocks;
    params_.kv = {layout_, reinterpret_cast<std::byte*>(pool_.data()), max_blocks * num_seqs};
    params_.workspace = reinterpret_cast<std::byte*>(workspace_.data());
    keys_ = static_cast<double>(num_seqs) * (context_len + query_len);
    pairs_ = static_cast<double>(num_seqs) * query_len * (context_len + (query_len + 1) / 2.0);
  }

  void Run(CpuContext& context) { PagedAttention(params_, context); }
  double bytes() const { return keys_ * 2 * shape_.num_kv_heads * shape_.head_dim * 2; }
  double flops() const { return pairs_ * 4 * shape_.num_heads * shape_.head_dim; }

 private:
  Shape shape_;
  KvLayout layout_;
  std::vector<uint16_t> pool_;
  std::vector<int32_t> tables_, cu_, contexts_;
  std::vector<float> q_, out_, workspace_;
  PagedAttentionParams params_;
  double keys_ = 0.0, pairs_ = 0.0;
};

void RunStep(benchmark::State& state, int context_len, int query_len, int num_seqs) {
  ThreadPool pool(static_cast<int>(state.range(1)));
  CpuContext context{&pool, BestIsa(HostCpuFeatures())};
  Step step(kShapes[state.range(0)], context_len, query_len, num_seqs, pool);
  for (auto _ : state) step.Run(context);
  const double runs = static_cast<double>(state.iterations());
  state.counters["GB/s"] = {step.bytes() * runs / 1e9, benchmark::Counter::kIsRate};
  state.counters["GFLOP/s"] = {step.flops() * runs / 1e9, benchmark::Counter::kIsRate};
}

void Arguments(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"shape", "threads"})->ArgsProduct({{0, 1}, {1, 0}})->UseRealTime();
}
BENCHMARK_CAPTURE(RunStep, attention / decode / context : 32768, 32768, 1, 1)->Apply(Arguments);
BENCHMARK_CAPTURE(RunStep, attention / decode / context : 1024 / seqs : 32, 1024, 1, 32)
    ->Apply(Arguments);
BENCHMARK_CAPTURE(RunStep, attention / prefill / tokens : 2048, 0, 2048, 1)->Apply(Arguments);

void SampleOneRow(benchmark::State& state, int top_k, float top_p) {
  const int vocab_size = 151936;
  std::vector<float> logits(vocab_size);
  uint32_t word = 1;
  for (float& logit : logits) {
    word = word * 1664525u + 1013904223u;
    // The power gives the long tail of a model's logits.
    const float u = static_cast<float>(word >> 8) * 0x1p-24f;
    logit = 20.0f * u * u * u * u * u * u * u * u;
  }
  SamplingSetup setup;
  setup.params.top_k = top_k;
  setup.params.top_p = top_p;
  SamplingState slot;
  slot.Reset(setup, vocab_size);
  SampleRow row{.logits = logits.data(), .state = &slot};
  std::vector<float> workspace(static_cast<size_t>(SampleWorkspaceBytes(vocab_size, 1) / 4));
  CpuContext context{nullptr, BestIsa(HostCpuFeatures())};
  const SampleParams params{.rows = {&row, 1},
                            .vocab_size = vocab_size,
                            .workspace = reinterpret_cast<std::byte*>(workspace.data())};
  for (auto _ : state) Sample(params, context);
}
BENCHMARK_CAPTURE(SampleOneRow, sample / greedy, 0, 0.0f);
BENCHMARK_CAPTURE(SampleOneRow, sample / top_k : 50, 50, 0.0f);
BENCHMARK_CAPTURE(SampleOneRow, sample / top_p : 0.9, 0, 0.9f);
BENCHMARK_CAPTURE(SampleOneRow, sample / everything, 0, 1.0f);

}  // namespace
}  // namespace trireme::kernels
