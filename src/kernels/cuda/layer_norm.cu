// SPDX-License-Identifier: Apache-2.0
#include "device/cuda/launch.cuh"
#include "kernels/cuda/layer_norm.h"
#include "kernels/cuda/rows.cuh"

namespace trireme::cuda {
namespace {

constexpr int kMaxThreads = 1024;
constexpr int kMaxSize = 16384;

// One block a token; the row stays in registers, kVectors x 8 values a thread.
template <typename T, typename Out, int kVectors>
__global__ void LayerNormKernel(const __grid_constant__ LayerNormParams p) {
  __shared__ float sum_scratch[kMaxThreads / kWarpSize];
  __shared__ float square_scratch[kMaxThreads / kWarpSize];
  cudaTriggerProgrammaticLaunchCompletion();
  cudaGridDependencySynchronize();
  const int64_t token = blockIdx.x;
  if (token >= *p.num_tokens) return;
  const T* x = static_cast<const T*>(p.x) + token * p.x_stride;
  const T* residual =
      p.residual ? static_cast<const T*>(p.residual) + token * p.residual_stride : nullptr;

  float values[kVectors][8];
  float sum = 0.0f;
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    const int i = (v * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x)) * 8;
    if (i >= p.size) break;
    LoadFloats8(x + i, values[v]);
    if (residual) {
      float other[8];
      LoadFloats8(residual + i, other);
#pragma unroll
      for (int j = 0; j < 8; ++j) values[v][j] = ToFloat(FromFloat<T>(values[v][j] + other[j]));
    }
    if (p.h) StoreFloats8(static_cast<T*>(p.h) + token * p.h_stride + i, values[v]);
#pragma unroll
    for (int j = 0; j < 8; ++j) sum += values[v][j];
  }
  const float mean = RowSum(sum, sum_scratch) / static_cast<float>(p.size);
  float squares = 0.0f;
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    const int i = (v * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x)) * 8;
    if (i >= p.size) break;
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      values[v][j] -= mean;
      squares += values[v][j] * values[v][j];
    }
  }
  squares = RowSum(squares, square_scratch);
  const float scale = 1.0f / sqrtf(squares / static_cast<float>(p.size) + p.epsilon);

  Out* y = static_cast<Out*>(p.y) + token * p.y_stride;
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    const int i = (v * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x)) * 8;
    if (i >= p.size) break;
    float gamma[8] = {1, 1, 1, 1, 1, 1, 1, 1};
    float beta[8] = {0, 0, 0, 0, 0, 0, 0, 0};
    if (p.gamma) LoadFloats8<T>(p.gamma, p.gamma_dtype, i, gamma);
    if (p.beta) LoadFloats8<T>(p.beta, p.gamma_dtype, i, beta);
#pragma unroll
    for (int j = 0; j < 8; ++j) values[v][j] = values[v][j] * scale * gamma[j] + beta[j];
    StoreScaled8(y + i, values[v], p.y_scale);
  }
}

bool IsSupported(const LayerNormParams& p) {
  return p.x_stride % 8 == 0 && p.residual_stride % 8 == 0 && p.h_stride % 8 == 0 &&
         p.y_stride % 8 == 0 && p.size > 0 && p.size % 8 == 0 && p.size <= kMaxSize &&
         p.max_tokens > 0 && (p.gamma_dtype == p.dtype || p.gamma_dtype == Element::kFloat32);
}

}  // namespace

cudaError_t LayerNorm(const LayerNormParams& params, LaunchContext& context) {
  if (!IsSupported(params)) return cudaErrorInvalidValue;
  const int vectors = params.size / 8;
  const int threads =
      vectors <= kMaxThreads ? (vectors + kWarpSize - 1) / kWarpSize * kWarpSize : kMaxThreads;
  const LaunchShape shape{.grid = dim3(static_cast<unsigned>(params.max_tokens)),
                          .block = dim3(static_cast<unsigned>(threads))};
  return DispatchHalfAndOutput(params.dtype, params.y_dtype, [&](auto t, auto out) {
    using T = typename decltype(t)::Type;
    using Out = typename decltype(out)::Type;
    return vectors <= kMaxThreads
               ? Launch(context, "LayerNorm", shape, LayerNormKernel<T, Out, 1>, params)
               : Launch(context, "LayerNorm", shape, LayerNormKernel<T, Out, 2>, params);
  });
}

}  // namespace trireme::cuda
