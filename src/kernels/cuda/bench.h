// SPDX-License-Identifier: Apache-2.0
// GPU microbenchmarks: each *_bench.cc of a cuda/ folder registers its groups, gpu_bench runs them.
// Host code; one thread.
//
//   TRIREME_GPU_BENCH(rms_norm) {
//     bench.Report({.name = "rms_norm/m1", .bytes = ..., .us = bench.Time([&](int i) { ... })});
//   }
#pragma once

#include <cstdint>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "device/cuda/launch.h"

namespace trireme::cuda {

struct BenchLine {
  std::string name;    // group/what/size
  std::string detail;  // configuration, competitor
  double us = 0;       // median
  double bytes = 0;    // that must be moved; 0: not bound by bandwidth
  double flops = 0;    // 0: not bound by arithmetic
};

class Bench {
 public:
  Bench(std::string filter, std::FILE* json) : filter_(std::move(filter)), json_(json) {}
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  // Whether --filter asks for a line or group `name`: either text holds the other.
  bool Wants(const std::string& name) const {
    return name.find(filter_) != std::string::npos || filter_.find(name) != std::string::npos;
  }

  // Microseconds of one call of body: `calls` of them, numbered from 0, are captured in a CUDA graph
  // that is replayed `replays` times after a warm-up; the median replay over `calls`. Negative when
  // anything fails; the reason is printed. The body rotates its operands by the number, past the L2.
  double Time(int calls, int replays, const std::function<bool(int, LaunchContext&)>& body);

  // Prints a line, with the share of the limit, and writes it as JSON.
  void Report(const BenchLine& line);

  // Programmatic dependent launches inside Time.
  void set_dependent(bool dependent) { dependent_ = dependent; }
  int num_failures() const { return num_failures_; }

 private:
  bool Capture(int calls, const std::function<bool(int, LaunchContext&)>& body, cudaStream_t stream,
               cudaGraphExec_t* graph);
  bool Check(cudaError_t error, const char* what);

  std::string filter_;
  std::FILE* json_;
  bool dependent_ = false;
  int num_failures_ = 0;
};

using BenchGroup = void (*)(Bench& bench);

struct RegisteredBench {
  RegisteredBench(const char* name, BenchGroup group);
};

#define TRIREME_GPU_BENCH(name)                                                         \
  static void Bench_##name(::trireme::cuda::Bench& bench);                              \
  static const ::trireme::cuda::RegisteredBench registered_##name(#name, Bench_##name); \
  static void Bench_##name(::trireme::cuda::Bench& bench)

// Device memory of a benchmark, filled with pseudo-random values of about N(0, std).
class BenchArray {
 public:
  enum class Fill { kNone, kBFloat16, kFloat8E4M3 };
  BenchArray(int64_t num_bytes, Fill fill, float std);
  BenchArray(const BenchArray&) = delete;
  BenchArray& operator=(const BenchArray&) = delete;
  ~BenchArray();
  bool ok() const { return data_ != nullptr; }
  uint8_t* data() const { return data_; }

 private:
  uint8_t* data_ = nullptr;
};

}  // namespace trireme::cuda
