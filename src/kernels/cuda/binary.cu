// SPDX-License-Identifier: Apache-2.0
#include "device/cuda/launch.cuh"
#include "kernels/cuda/binary.h"
#include "kernels/cuda/rows.cuh"

namespace trireme::cuda {
namespace {

constexpr int kThreads = 256;

__device__ float Apply(BinaryOp op, float a, float b, float value) {
  switch (op) {
    case BinaryOp::kAdd: return a + b;
    case BinaryOp::kMul: return a * b;
    case BinaryOp::kScale: return value * a;
    case BinaryOp::kSoftCap: return value * tanhf(a / value);
  }
  return a;
}

// Eight values a thread; blockIdx.x a row, blockIdx.y a stretch of it.
template <typename T>
__global__ void BinaryKernel(const __grid_constant__ BinaryParams p) {
  cudaTriggerProgrammaticLaunchCompletion();
  cudaGridDependencySynchronize();
  const int64_t row = blockIdx.x;
  if (row >= *p.num_rows) return;
  const int i = static_cast<int>(blockIdx.y * kThreads + threadIdx.x) * 8;
  if (i >= p.size) return;
  float a[8];
  float b[8] = {};
  LoadFloats8(static_cast<const T*>(p.a) + row * p.a_stride + i, a);
  if (p.b) LoadFloats8(static_cast<const T*>(p.b) + row * p.b_stride + i, b);
#pragma unroll
  for (int j = 0; j < 8; ++j) a[j] = Apply(p.op, a[j], b[j], p.value);
  StoreFloats8(static_cast<T*>(p.y) + row * p.y_stride + i, a);
}

}  // namespace

cudaError_t Binary(const BinaryParams& p, LaunchContext& context) {
  const bool needs_b = p.op == BinaryOp::kAdd || p.op == BinaryOp::kMul;
  if (p.size <= 0 || p.size % 8 != 0 || p.max_rows <= 0 || p.a_stride % 8 != 0 ||
      p.b_stride % 8 != 0 || p.y_stride % 8 != 0 || needs_b != (p.b != nullptr)) {
    return cudaErrorInvalidValue;
  }
  const int stretches = (p.size / 8 + kThreads - 1) / kThreads;
  const LaunchShape shape{
      .grid = dim3(static_cast<unsigned>(p.max_rows), static_cast<unsigned>(stretches)),
      .block = dim3(kThreads)};
  if (p.dtype == Element::kFloat32) {
    return Launch(context, "Binary", shape, BinaryKernel<float>, p);
  }
  return DispatchHalf(p.dtype, [&](auto t) {
    return Launch(context, "Binary", shape, BinaryKernel<typename decltype(t)::Type>, p);
  });
}

}  // namespace trireme::cuda
