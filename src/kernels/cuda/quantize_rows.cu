// SPDX-License-Identifier: Apache-2.0
#include "device/cuda/launch.cuh"
#include "kernels/cuda/quantize_rows.h"
#include "kernels/cuda/rows.cuh"

namespace trireme::cuda {
namespace {

constexpr int kThreads = 256;

// Eight values a thread; blockIdx.x a row, blockIdx.y a stretch of it.
template <typename T>
__global__ void QuantizeRowsKernel(const __grid_constant__ QuantizeRowsParams p) {
  cudaTriggerProgrammaticLaunchCompletion();
  cudaGridDependencySynchronize();
  const int64_t row = blockIdx.x;
  if (row >= *p.num_rows) return;
  const int i = static_cast<int>(blockIdx.y * kThreads + threadIdx.x) * 8;
  if (i >= p.size) return;
  float values[8];
  LoadFloats8(static_cast<const T*>(p.x) + row * p.x_stride + i, values);
  StoreScaled8(static_cast<__nv_fp8_e4m3*>(p.y) + row * p.y_stride + i, values, p.scale);
}

}  // namespace

cudaError_t QuantizeRows(const QuantizeRowsParams& p, LaunchContext& context) {
  if (p.size <= 0 || p.size % 8 != 0 || p.max_rows <= 0 || p.x_stride % 8 != 0 ||
      p.y_stride % 8 != 0 || !(p.scale > 0.0f)) {
    return cudaErrorInvalidValue;
  }
  const int stretches = (p.size / 8 + kThreads - 1) / kThreads;
  const LaunchShape shape{
      .grid = dim3(static_cast<unsigned>(p.max_rows), static_cast<unsigned>(stretches)),
      .block = dim3(kThreads)};
  return DispatchHalf(p.dtype, [&](auto t) {
    return Launch(context, "QuantizeRows", shape, QuantizeRowsKernel<typename decltype(t)::Type>,
                  p);
  });
}

}  // namespace trireme::cuda
