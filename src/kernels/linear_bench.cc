// SPDX-License-Identifier: Apache-2.0
// Linear layers of Qwen2-0.5B and Llama-3.2-1B: every tactic, decode (1 and 16 rows) against the read
// bandwidth of the same threads measured between the iterations, prefill (512 rows) in GFLOP/s.
//
//   kernels_bench --benchmark_filter='linear/llama_1b.down/int4.*rows:1$'
//
// Weights of few rows rotate through 512 MB, past any cache.
#include <benchmark/benchmark.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "kernels/linear.h"
#include "kernels/linear_variant.h"

namespace trireme::kernels {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kRotatedBytes = int64_t{512} << 20;
constexpr int64_t kLineBytes = 64;

double Seconds(Clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

// Normal numbers in each of float32, float16 and bfloat16, and any integers.
void FillWithNumbers(std::byte* data, int64_t bytes) {
  uint32_t state = 1;
  for (int64_t at = 0; at + 4 <= bytes; at += 4) {
    state = state * 1664525u + 1013904223u;
    const uint32_t word = (state & 0x8fff8fffu) | 0x30003000u;
    std::memcpy(data + at, &word, 4);
  }
}

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

struct Case {
  LinearProblem problem;
  LinearTactic tactic;
  int64_t rows = 0;
};

void RunCase(benchmark::State& state, const Case& c) {
  ThreadPool pool(0);
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
  double kernel_seconds = 0;
  double read_seconds = 0;
  for (auto _ : state) {
    params.packed = RotatedWeights() + next % copies * stride;
    const auto start = Clock::now();
    kernel->Run(params, context);
    const double seconds = Seconds(Clock::now() - start);
    kernel_seconds += seconds;
    state.SetIterationTime(seconds);
    ++next;
    if (c.rows > 16) continue;
    const auto read_start = Clock::now();
    ReadAll(RotatedWeights() + next % copies * stride, *packed_bytes, pool);
    read_seconds += Seconds(Clock::now() - read_start);
    ++next;
  }
  const double iterations = static_cast<double>(state.iterations());
  const double flops = 2.0 * static_cast<double>(c.rows * c.problem.in_features) *
                       static_cast<double>(c.problem.out_features);
  state.counters["GFLOP/s"] = flops * iterations / kernel_seconds / 1e9;
  if (c.rows > 16) return;
  state.counters["GB/s"] = static_cast<double>(*packed_bytes) * iterations / kernel_seconds / 1e9;
  state.counters["read_share"] = read_seconds / kernel_seconds;
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
