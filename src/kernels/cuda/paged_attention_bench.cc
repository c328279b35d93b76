// SPDX-License-Identifier: Apache-2.0
// Times attention: decode over caches that together exceed the L2 several times, alone and in one
// launch with RoPE and the cache write; prefill, with its plan and its RoPE.
#include <algorithm>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "kernels/cuda/bench.h"
#include "kernels/cuda/paged_attention.h"

namespace trireme::cuda {
namespace {

constexpr int kReplays = 9;

// A host array's copy in device memory.
template <typename T>
class BenchTable {
 public:
  explicit BenchTable(const std::vector<T>& values) {
    const size_t bytes = values.size() * sizeof(T);
    if (cudaMalloc(reinterpret_cast<void**>(&data_), bytes) != cudaSuccess) return;
    cudaMemcpy(data_, values.data(), bytes, cudaMemcpyHostToDevice);
  }
  BenchTable(const BenchTable&) = delete;
  BenchTable& operator=(const BenchTable&) = delete;
  ~BenchTable() { cudaFree(data_); }
  T* data() const { return data_; }

 private:
  T* data_ = nullptr;
};

struct BenchCase {
  int batch = 1;
  int context = 1024;  // before the step
  int query_len = 1;
  Element cache = Element::kBFloat16;
  int num_heads = 32;
  int num_kv_heads = 8;
  int head_dim = 128;
  int block_size = 64;
  bool generic = false;
};

// A step of equal sequences over `layers` layers' caches.
class BenchStep {
 public:
  explicit BenchStep(const BenchCase& c)
      : c_(c),
        layers_(LayersOf(c)),
        blocks_((c.context + c.query_len + c.block_size - 1) / c.block_size),
        tokens_(c.batch * c.query_len),
        pool_(PoolBytes(),
              c.cache == Element::kFloat8E4M3 ? BenchArray::Fill::kFloat8E4M3
                                              : BenchArray::Fill::kBFloat16,
              1.0f),
        qkv_(tokens_ * width() * 2, BenchArray::Fill::kBFloat16, 1.0f),
        out_(int64_t{tokens_} * c.num_heads * c.head_dim * 2, BenchArray::Fill::kNone, 0.0f),
        counts_(std::vector<StepCounts>{{tokens_, c.batch, 0, c.query_len}}),
        positions_(PerToken([&](int, int i) { return c.context + i; })),
        token_seqs_(PerToken([](int seq, int) { return seq; })),
        cu_(PerSequence([&](int seq) { return seq * c.query_len; }, c.batch + 1)),
        contexts_(PerSequence([&](int) { return c.context; }, c.batch)),
        tables_(Tables()),
        table_(std::vector<float>(static_cast<size_t>(c.context + c.query_len) * c.head_dim / 2,
                                  0.5f)),
        workspace_(WorkspaceBytes(), BenchArray::Fill::kNone, 0.0f) {}

  int layers() const { return layers_; }
  double bytes() const {  // read from one layer's cache
    return 2.0 * c_.batch * (c_.context + c_.query_len) * c_.num_kv_heads * c_.head_dim *
           element_bytes();
  }
  double operations() const {
    const double pairs =
        1.0 * c_.query_len * c_.context + 1.0 * c_.query_len * (c_.query_len + 1) / 2;
    return 4.0 * c_.batch * pairs * c_.num_heads * c_.head_dim;
  }
  double rope_bytes() const {
    return 1.0 * tokens_ * c_.head_dim *
           (2.0 * 2 * c_.num_heads + 2.0 * c_.num_kv_heads * (2 + element_bytes()));
  }
  bool ok() const { return pool_.ok() && qkv_.ok() && out_.ok() && workspace_.ok(); }

  PagedAttentionParams Attention(int layer) const {
    return {.q = qkv_.data(),
            .q_stride = width(),
            .num_heads = c_.num_heads,
            .scale = 0.088f,
            .out = out_.data(),
            .out_stride = int64_t{c_.num_heads} * c_.head_dim,
            .step = Step(),
            .kv = Kv(),
            .layer = layer,
            .workspace = workspace_.data(),
            .generic_prefill = c_.generic};
  }
  RopeKvWriteParams Rope(int layer) const {
    return {.qkv = qkv_.data(),
            .qkv_stride = width(),
            .num_heads = c_.num_heads,
            .style = RotaryStyle::kNeox,
            .rotary_dim = c_.head_dim,
            .cos = table_.data(),
            .sin = table_.data(),
            .step = Step(),
            .kv = Kv(),
            .layer = layer};
  }

 private:
  static int LayersOf(const BenchCase& c) {
    const double bytes = 4.0 * c.batch * (c.context + c.query_len) * c.num_kv_heads * c.head_dim;
    return c.query_len > 1 ? 1 : std::clamp(static_cast<int>(3e8 / bytes) + 1, 2, 64);
  }
  int element_bytes() const { return c_.cache == Element::kFloat8E4M3 ? 1 : 2; }
  int64_t width() const { return int64_t{c_.num_heads + 2 * c_.num_kv_heads} * c_.head_dim; }
  int64_t block_bytes() const {
    return int64_t{layers_} * 2 * c_.num_kv_heads * c_.block_size * c_.head_dim * element_bytes();
  }
  int64_t PoolBytes() const { return int64_t{c_.batch} * blocks_ * block_bytes(); }
  template <typename F>
  std::vector<int32_t> PerToken(F value) const {
    std::vector<int32_t> values;
    for (int seq = 0; seq < c_.batch; ++seq) {
      for (int i = 0; i < c_.query_len; ++i) values.push_back(value(seq, i));
    }
    return values;
  }
  template <typename F>
  std::vector<int32_t> PerSequence(F value, int count) const {
    std::vector<int32_t> values;
    for (int seq = 0; seq < count; ++seq) values.push_back(value(seq));
    return values;
  }
  std::vector<int32_t> Tables() const {
    std::vector<int32_t> tables(static_cast<size_t>(c_.batch) * blocks_);
    std::iota(tables.begin(), tables.end(), 0);
    std::shuffle(tables.begin(), tables.end(), std::mt19937(3));
    return tables;
  }
  int64_t WorkspaceBytes() const {
    return PagedAttentionWorkspaceBytes(Attention(0), LaunchContext{});
  }
  StepView Step() const {
    return {.counts = counts_.data(),
            .positions = positions_.data(),
            .token_seqs = token_seqs_.data(),
            .cu_query_lens = cu_.data(),
            .context_lens = contexts_.data(),
            .block_tables = tables_.data(),
            .block_table_stride = blocks_,
            .max_tokens = tokens_,
            .max_seqs = c_.batch,
            .max_query = c_.query_len,
            .max_seq_len = c_.context + c_.query_len};
  }
  KvView Kv() const {
    return {.dtype = c_.cache,
            .pool = pool_.data(),
            .block_bytes = block_bytes(),
            .num_kv_heads = c_.num_kv_heads,
            .head_dim = c_.head_dim,
            .block_size = c_.block_size};
  }

  BenchCase c_;
  int layers_;
  int blocks_;
  int tokens_;
  BenchArray pool_, qkv_, out_;
  BenchTable<StepCounts> counts_;
  BenchTable<int32_t> positions_, token_seqs_, cu_, contexts_, tables_;
  BenchTable<float> table_;
  BenchArray workspace_;
};

bool Plan(const BenchStep& step) {
  LaunchContext context;
  if (step.ok() && PlanPagedAttention(step.Attention(0), context) == cudaSuccess) return true;
  std::fprintf(stderr, "gpu_bench: attention cannot be planned\n");
  return false;
}

void BenchDecode(Bench& bench, const BenchCase& c) {
  const bool float8 = c.cache == Element::kFloat8E4M3;
  const std::string name = std::string("attention/decode/") + (float8 ? "fp8/" : "bf16/") +
                           std::to_string(c.batch) + "x" + std::to_string(c.context + 1);
  if (!bench.Wants(name)) return;
  const BenchStep step(c);
  if (!Plan(step)) return;
  const std::string block = "block " + std::to_string(c.block_size);
  const double alone = bench.Time(step.layers(), kReplays, [&](int i, LaunchContext& context) {
    return PagedAttention(step.Attention(i), context) == cudaSuccess;
  });
  bench.Report({.name = name, .detail = block, .us = alone, .bytes = step.bytes()});
  const double fused = bench.Time(step.layers(), kReplays, [&](int i, LaunchContext& context) {
    return RopePagedAttention(step.Rope(i), step.Attention(i), context) == cudaSuccess;
  });
  bench.Report({.name = name, .detail = "with rope, write", .us = fused, .bytes = step.bytes()});
  const double plan = bench.Time(4, kReplays, [&](int, LaunchContext& context) {
    return PlanPagedAttention(step.Attention(0), context) == cudaSuccess;
  });
  bench.Report({.name = name, .detail = "plan", .us = plan});
}

void BenchPrefill(Bench& bench, const BenchCase& c) {
  const bool float8 = c.cache == Element::kFloat8E4M3;
  const std::string name = std::string("attention/prefill/") + (float8 ? "fp8/d" : "bf16/d") +
                           std::to_string(c.head_dim) + "/" + std::to_string(c.batch) + "x" +
                           std::to_string(c.query_len) + "+" + std::to_string(c.context);
  if (!bench.Wants(name)) return;
  const BenchStep step(c);
  if (!Plan(step)) return;
  const auto time = [&](auto launch) {
    return bench.Time(4, kReplays,
                      [&](int, LaunchContext& context) { return launch(context) == cudaSuccess; });
  };
  const std::string heads = std::to_string(c.num_heads) + "/" + std::to_string(c.num_kv_heads) +
                            " block " + std::to_string(c.block_size);
  bench.Report({.name = name,
                .detail = c.generic ? "generic" : heads,
                .us = time([&](LaunchContext& x) { return PagedAttention(step.Attention(0), x); }),
                .flops = step.operations()});
  bench.Report({.name = name,
                .detail = "rope and write",
                .us = time([&](LaunchContext& x) { return RopeKvWrite(step.Rope(0), x); }),
                .bytes = step.rope_bytes()});
  bench.Report({.name = name, .detail = "plan", .us = time([&](LaunchContext& x) {
                                                  return PlanPagedAttention(step.Attention(0), x);
                                                })});
}

}  // namespace

TRIREME_GPU_BENCH(attention) {
  for (const Element cache : {Element::kBFloat16, Element::kFloat8E4M3}) {
    for (const auto& [batch, length] : {std::pair{1, 128},
                                        {1, 512},
                                        {1, 1024},
                                        {1, 8192},
                                        {1, 32768},
                                        {1, 131072},
                                        {8, 1024},
                                        {8, 8192},
                                        {32, 4096},
                                        {64, 1024},
                                        {512, 140},
                                        {1024, 192},
                                        {32, 8192},
                                        {256, 1024},
                                        {256, 4096}}) {
      BenchDecode(bench, {.batch = batch, .context = length - 1, .cache = cache});
    }
  }
  for (const int block_size : {16, 128}) {
    BenchDecode(bench, {.batch = 64, .context = 4095, .block_size = block_size});
  }
  for (const Element cache : {Element::kBFloat16, Element::kFloat8E4M3}) {
    for (const int length : {128, 512, 2048, 8192}) {
      BenchPrefill(bench,
                   {.batch = 16384 / length, .context = 0, .query_len = length, .cache = cache});
    }
  }
  BenchPrefill(bench, {.batch = 2, .context = 0, .query_len = 8192, .num_kv_heads = 32});
  BenchPrefill(bench, {.batch = 2, .context = 0, .query_len = 8192, .block_size = 16});
  BenchPrefill(bench, {.batch = 2, .context = 6144, .query_len = 2048});
  BenchPrefill(bench,
               {.batch = 2, .context = 6144, .query_len = 2048, .cache = Element::kFloat8E4M3});
  BenchPrefill(bench, {.batch = 8, .context = 0, .query_len = 2048, .head_dim = 64});
  BenchPrefill(bench, {.batch = 2, .context = 0, .query_len = 8192, .generic = true});
}

}  // namespace trireme::cuda
