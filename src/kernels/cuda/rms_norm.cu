// SPDX-License-Identifier: Apache-2.0
#include "device/cuda/launch.cuh"
#include "kernels/cuda/rms_norm.h"
#include "kernels/cuda/rows.cuh"

namespace trireme::cuda {
namespace {

constexpr int kMaxThreads = 1024;
constexpr int kMaxSize = 16384;
constexpr int kRowsPerBlock = 4;  // of rows that one warp holds

// One row (a token's head) for each threadIdx.y; the row stays in registers, kVectors x 8 values a
// thread.
template <typename T, typename Out, int kVectors>
__global__ void RmsNormKernel(const __grid_constant__ RmsNormParams p) {
  __shared__ float scratch[kMaxThreads / kWarpSize];
  cudaTriggerProgrammaticLaunchCompletion();
  cudaGridDependencySynchronize();
  const int64_t row = int64_t{blockIdx.x} * blockDim.y + threadIdx.y;
  const int64_t token = row / p.num_heads;
  const int64_t head = row % p.num_heads;
  if (token >= *p.num_tokens) return;  // whole warps; whole blocks where there is a barrier
  const T* x = static_cast<const T*>(p.x) + token * p.x_stride + head * p.x_head_stride;
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
    for (int j = 0; j < 8; ++j) sum += values[v][j] * values[v][j];
  }
  sum = RowSum(sum, scratch);
  const float scale = 1.0f / sqrtf(sum / static_cast<float>(p.size) + p.epsilon);

  Out* y = static_cast<Out*>(p.y) + token * p.y_stride + head * p.y_head_stride;
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    const int i = (v * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x)) * 8;
    if (i >= p.size) break;
    float gamma[8];
    LoadFloats8<T>(p.gamma, p.gamma_dtype, i, gamma);
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      values[v][j] *= scale * (p.gamma_plus_one ? 1.0f + gamma[j] : gamma[j]);
    }
    StoreScaled8(y + i, values[v], p.y_scale);
  }
}

bool IsSupported(const RmsNormParams& p) {
  const bool strides = p.x_stride % 8 == 0 && p.x_head_stride % 8 == 0 &&
                       p.residual_stride % 8 == 0 && p.h_stride % 8 == 0 && p.y_stride % 8 == 0 &&
                       p.y_head_stride % 8 == 0;
  const bool heads = p.num_heads == 1 || (p.num_heads > 1 && !p.residual && !p.h);
  return strides && heads && p.size > 0 && p.size % 8 == 0 && p.size <= kMaxSize &&
         p.max_tokens > 0 && (p.gamma_dtype == p.dtype || p.gamma_dtype == Element::kFloat32);
}

}  // namespace

cudaError_t RmsNorm(const RmsNormParams& params, LaunchContext& context) {
  if (!IsSupported(params)) return cudaErrorInvalidValue;
  const int vectors = params.size / 8;
  const int threads = vectors <= kWarpSize     ? kWarpSize
                      : vectors <= kMaxThreads ? (vectors + kWarpSize - 1) / kWarpSize * kWarpSize
                                               : kMaxThreads;
  const int rows_per_block = threads == kWarpSize ? kRowsPerBlock : 1;
  const int64_t rows = int64_t{params.max_tokens} * params.num_heads;
  const LaunchShape shape{
      .grid = dim3(static_cast<unsigned>((rows + rows_per_block - 1) / rows_per_block)),
      .block = dim3(static_cast<unsigned>(threads), static_cast<unsigned>(rows_per_block))};
  return DispatchHalfAndOutput(params.dtype, params.y_dtype, [&](auto t, auto out) {
    using T = typename decltype(t)::Type;
    using Out = typename decltype(out)::Type;
    return vectors <= kMaxThreads
               ? Launch(context, "RmsNorm", shape, RmsNormKernel<T, Out, 1>, params)
               : Launch(context, "RmsNorm", shape, RmsNormKernel<T, Out, 2>, params);
  });
}

}  // namespace trireme::cuda
