// SPDX-License-Identifier: Apache-2.0
// Linear layers of Qwen2-0.5B and Llama-3.2-1B: every tactic, decode (1 and 16 rows) against the read
// bandwidth of the same threads measured between the iterations, prefill (512 rows) in GFLOP/s.
//
//   kernels_bench --benchmark_filter='linear/llama_1b.down/int4.*rows:1$'
//
// Weights of few rows rotate through 512 MB, past any cache.
#include <benchmark/benchmark.h>
#include <sched.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "kernels/linear.h"
#include "kernels/linear_variant.h"

namespace trireme::kernels {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kRotatedBytes = int64_t{512} << 20;
constexpr int64_t kLineBytes = 64;

double Seconds(Clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

// Of the samples of a shared machine, the middle ones are its own speed.
double Median(std::vector<double> samples) {
  if (samples.empty()) return 0;
  std::nth_element(samples.begin(), samples.begin() + samples.size() / 2, samples.end());
  return samples[samples.size() / 2];
}

// Normal numbers in each of float32, float16 and bfloat16, and any integers.
void FillWithNumbers(std::byte* data, int64_t bytes) {
  uint32_t state = 1;
  for (int64_t at = 0; at + 4 <= bytes; at += 4) {
    state = state * 1664525u + 1013904223u;
    const uint32_t word = (state & 0x8fff8fffu) | 0x30003000u;
    std::memcpy(data + at, &word, 4);
  }
}

// Worker i of a pool is pinned to the i-th processor and the caller is not: on a busy machine it may
// land on a worker's. Keeps the calling thread on the first, as long as the pool lives.
class PinnedCaller {
 public:
  PinnedCaller() {
    CPU_ZERO(&allowed_);
    if (::sched_getaffinity(0, sizeof(allowed_), &allowed_) != 0) return;
    cpu_set_t first;
    CPU_ZERO(&first);
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (!CPU_ISSET(cpu, &allowed_)) continue;
      CPU_SET(cpu, &first);
      (void)::sched_setaffinity(0, sizeof(first), &first);
      return;
    }
  }
  ~PinnedCaller() { (void)::sched_setaffinity(0, sizeof(allowed_), &allowed_); }

 private:
  cpu_set_t allowed_;
};

struct FreeDeleter {
  void operator()(std::byte* p) const { std::free(p); }
};
using Buffer = std::unique_ptr<std::byte, FreeDeleter>;

Buffer Allocate(int64_t bytes) {
  bytes = (bytes + 4095) / 4096 * 4096;
  Buffer buffer(static_cast<std::byte*>(std::aligned_alloc(4096, static_cast<size_t>(bytes))));
  FillWithNumbers(buffer.get(), bytes);
  return buffer;
}

std::byte* RotatedWeights() {
  static const Buffer buffer = Allocate(kRotatedBytes);
  return buffer.get();
}

// Reads every line once, each task a contiguous piece, as a decode step does.
void ReadAll(const std::byte* data, int64_t bytes, ThreadPool& pool) {
  const int64_t pieces = int64_t{8} * pool.num_threads();
  const int64_t piece = (bytes / pieces + kLineBytes - 1) / kLineBytes * kLineBytes;
  pool.ParallelFor(pieces, [&](int64_t task, int) {
    const int64_t end = std::min(bytes, (task + 1) * piece);
    uint64_t sum[4] = {};
    for (int64_t at = task * piece; at + 4 * kLineBytes <= end; at += 4 * kLineBytes) {
      __builtin_prefetch(data + at + 4096);
      __builtin_prefetch(data + at + 4096 + kLineBytes);
      __builtin_prefetch(data + at + 4096 + 2 * kLineBytes);
      __builtin_prefetch(data + at + 4096 + 3 * kLineBytes);
      for (int i = 0; i < 4; ++i) {
        uint64_t word;
        std::memcpy(&word, data + at + i * kLineBytes, sizeof(word));
        sum[i] ^= word;
      }
    }
    benchmark::DoNotOptimize(sum);
  });
}

// What the memory gives to all threads of the process reading apart: the limit of decode.
void ReadBandwidth(benchmark::State& state) {
  ThreadPool pool(0);
  const PinnedCaller pinned;
  const std::byte* data = RotatedWeights();
  for (auto _ : state) ReadAll(data, kRotatedBytes, pool);
  state.counters["GB/s"] = benchmark::Counter(
      static_cast<double>(kRotatedBytes * state.iterations()) / 1e9, benchmark::Counter::kIsRate);
}
BENCHMARK(ReadBandwidth)->Name("read_bandwidth")->UseRealTime()->Unit(benchmark::kMillisecond);

struct Case {
  LinearProblem problem;
  LinearTactic tactic;
  int64_t rows = 0;
};

void RunCase(benchmark::State& state, const Case& c) {
  ThreadPool pool(0);
  const PinnedCaller pinned;
  CpuContext context{&pool, BestIsa(HostCpuFeatures())};
  const auto kernel = LinearKernel::Create(c.problem, c.tactic);
  const auto packed_bytes = PackedLinearBytes(c.problem, c.tactic.layout);
  if (!kernel.ok() || !packed_bytes.ok()) return state.SkipWithError("not supported");
  const int64_t outputs = c.problem.gated == GatedActivation::kNone ? c.problem.out_features
                                                                    : c.problem.out_features / 2;
  const Buffer x = Allocate(c.rows * c.problem.in_features * 4);
  const Buffer y = Allocate(c.rows * outputs * 4);
  const Buffer workspace =
      Allocate(LinearWorkspaceBytes(c.problem, c.tactic, c.rows, pool.num_threads()));
  LinearParams params;
  params.x = reinterpret_cast<const float*>(x.get());
  params.x_stride = c.problem.in_features;
  params.y = reinterpret_cast<float*>(y.get());
  params.y_stride = outputs;
  params.num_tokens = c.rows;
  params.workspace = workspace.get();
  const int64_t stride = (*packed_bytes + 4095) / 4096 * 4096;
  const int64_t copies = std::max<int64_t>(1, kRotatedBytes / stride);
  if (stride > kRotatedBytes) return state.SkipWithError("larger than the rotated weights");
  int64_t next = 0;
  std::vector<double> kernel_seconds;
  std::vector<double> read_seconds;
  for (auto _ : state) {
    params.packed = RotatedWeights() + next % copies * stride;
    const auto start = Clock::now();
    kernel->Run(params, context);
    const double seconds = Seconds(Clock::now() - start);
    kernel_seconds.push_back(seconds);
    state.SetIterationTime(seconds);
    ++next;
    if (c.rows > 16) continue;
    const auto read_start = Clock::now();
    ReadAll(RotatedWeights() + next % copies * stride, *packed_bytes, pool);
    read_seconds.push_back(Seconds(Clock::now() - read_start));
    ++next;
  }
  const double flops = 2.0 * static_cast<double>(c.rows * c.problem.in_features) *
                       static_cast<double>(c.problem.out_features);
  const double median = Median(kernel_seconds);
  state.counters["GFLOP/s"] = flops / median / 1e9;
  if (c.rows > 16) return;
  state.counters["GB/s"] = static_cast<double>(*packed_bytes) / median / 1e9;
  state.counters["read_share"] = Median(read_seconds) / median;
}

struct LayerShape {
  const char* name;
  int64_t out;
  int64_t in;
  bool gated;
};

constexpr LayerShape kLayers[] = {
    {"qwen2_0.5b.qkv", 1152, 896, false},       {"qwen2_0.5b.o", 896, 896, false},
    {"qwen2_0.5b.gate_up", 9728, 896, true},    {"qwen2_0.5b.down", 896, 4864, false},
    {"qwen2_0.5b.lm_head", 151936, 896, false}, {"llama_1b.qkv", 3072, 2048, false},
    {"llama_1b.o", 2048, 2048, false},          {"llama_1b.gate_up", 16384, 2048, true},
    {"llama_1b.down", 2048, 8192, false},       {"llama_1b.lm_head", 128256, 2048, false},
};

struct Format {
  const char* name;
  DType dtype;
  WeightQuant quant;
};

constexpr Format kFormats[] = {
    {"float32", DType::kFloat32, {}},
    {"float16", DType::kFloat16, {}},
    {"bfloat16", DType::kBFloat16, {}},
    {"int8", DType::kBFloat16, {WeightQuant::Kind::kInt8, 0}},
    {"int4_g128", DType::kBFloat16, {WeightQuant::Kind::kInt4, 128}},
};

void RegisterAll() {
  for (const LayerShape& layer : kLayers) {
    for (const Format& format : kFormats) {
      const LinearProblem problem{
          .out_features = layer.out,
          .in_features = layer.in,
          .dtype = format.dtype,
          .quant = format.quant,
          .gated = layer.gated ? GatedActivation::kSilu : GatedActivation::kNone};
      for (const LinearTactic& tactic : LinearTactics(problem, HostCpuFeatures())) {
        for (int64_t rows : {1, 16, 512}) {
          const std::string name = std::string("linear/") + layer.name + "/" + format.name + "/" +
                                   tactic.kernel + "/rows:" + std::to_string(rows);
          const Case c{problem, tactic, rows};
          benchmark::RegisterBenchmark(name.c_str(),
                                       [c](benchmark::State& state) { RunCase(state, c); })
              ->UseManualTime()
              ->Unit(benchmark::kMicrosecond);
        }
      }
    }
  }
}

[[maybe_unused]] const bool g_registered = (RegisterAll(), true);

}  // namespace
}  // namespace trireme::kernels
