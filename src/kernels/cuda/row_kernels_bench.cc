// SPDX-License-Identifier: Apache-2.0
// Norms, activations and synthetic weights at the shapes of an 8B model.
#include "kernels/cuda/activation.h"
#include "kernels/cuda/bench.h"
#include "kernels/cuda/quantize_rows.h"
#include "kernels/cuda/random_normal.h"
#include "kernels/cuda/rms_norm.h"

namespace trireme::cuda {
namespace {

constexpr int kHidden = 4096;
constexpr int kIntermediate = 14336;
constexpr int64_t kRotated = int64_t{192} << 20;  // bytes that calls are spread over, past the L2

// How many operand sets of `bytes` are rotated through.
int SetsOf(int64_t bytes) { return static_cast<int>(std::max<int64_t>(1, kRotated / bytes)); }

class DeviceCount {
 public:
  explicit DeviceCount(int value) : array_(4, BenchArray::Fill::kNone, 0.0f) {
    cudaMemcpy(array_.data(), &value, 4, cudaMemcpyHostToDevice);
  }
  const int32_t* get() const { return reinterpret_cast<const int32_t*>(array_.data()); }

 private:
  BenchArray array_;
};

TRIREME_GPU_BENCH(rms_norm) {
  for (const int tokens : {1, 64, 512, 8192}) {
    const std::string name = "rms_norm/residual/m" + std::to_string(tokens);
    if (!bench.Wants(name)) continue;
    const int64_t bytes = int64_t{tokens} * kHidden * 2;
    const int sets = SetsOf(bytes);
    BenchArray x(bytes * sets, BenchArray::Fill::kBFloat16, 1.0f);
    BenchArray h(bytes * sets, BenchArray::Fill::kBFloat16, 1.0f);
    BenchArray y(bytes * sets, BenchArray::Fill::kNone, 0.0f);
    BenchArray gamma(kHidden * 2, BenchArray::Fill::kBFloat16, 1.0f);
    const DeviceCount count(tokens);
    const double us = bench.Time(64, 15, [&](int i, LaunchContext& context) {
      const int64_t at = bytes * (i % sets);
      return RmsNorm({.x = x.data() + at,
                      .x_stride = kHidden,
                      .residual = h.data() + at,
                      .residual_stride = kHidden,
                      .h = h.data() + at,
                      .h_stride = kHidden,
                      .gamma = gamma.data(),
                      .y = y.data() + at,
                      .y_stride = kHidden,
                      .size = kHidden,
                      .max_tokens = tokens,
                      .num_tokens = count.get()},
                     context) == cudaSuccess;
    });
    bench.Report({.name = name, .us = us, .bytes = 4.0 * static_cast<double>(bytes)});
  }
}

TRIREME_GPU_BENCH(activation) {
  for (const int tokens : {1, 64, 8192}) {
    for (const bool fp8 : {false, true}) {
      const std::string name =
          std::string("swiglu/") + (fp8 ? "fp8" : "bf16") + "/m" + std::to_string(tokens);
      if (!bench.Wants(name)) continue;
      const int64_t in_bytes = int64_t{tokens} * kIntermediate * 4;
      const int sets = SetsOf(in_bytes);
      BenchArray x(in_bytes * sets, BenchArray::Fill::kBFloat16, 1.0f);
      BenchArray y(in_bytes / 2 * sets, BenchArray::Fill::kNone, 0.0f);
      const DeviceCount count(tokens);
      const double us = bench.Time(64, 15, [&](int i, LaunchContext& context) {
        uint8_t* rows = x.data() + in_bytes * (i % sets);
        return Activate({.x = rows,
                         .x_stride = 2 * kIntermediate,
                         .up = rows + 2 * kIntermediate,
                         .up_stride = 2 * kIntermediate,
                         .y_dtype = fp8 ? Element::kFloat8E4M3 : Element::kBFloat16,
                         .y = y.data() + in_bytes / 2 * (i % sets),
                         .y_stride = kIntermediate,
                         .y_scale = 0.1f,
                         .size = kIntermediate,
                         .max_tokens = tokens,
                         .num_tokens = count.get()},
                        context) == cudaSuccess;
      });
      bench.Report(
          {.name = name, .us = us, .bytes = static_cast<double>(in_bytes) * (fp8 ? 1.25 : 1.5)});
    }
  }
}

TRIREME_GPU_BENCH(random_normal) {
  const int64_t count = int64_t{1} << 28;
  BenchArray y(count * 2, BenchArray::Fill::kNone, 0.0f);
  for (const Element dtype : {Element::kBFloat16, Element::kFloat8E4M3}) {
    const bool fp8 = dtype == Element::kFloat8E4M3;
    const std::string name = std::string("random_normal/") + (fp8 ? "fp8" : "bf16");
    if (!bench.Wants(name)) continue;
    const double us = bench.Time(1, 5, [&](int, LaunchContext& context) {
      return RandomNormal({.dtype = dtype, .y = y.data(), .count = count, .std = 0.02f, .seed = 1},
                          context) == cudaSuccess;
    });
    bench.Report({.name = name, .us = us, .bytes = static_cast<double>(count) * (fp8 ? 1 : 2)});
  }
}

}  // namespace
}  // namespace trireme::cuda
