// SPDX-License-Identifier: Apache-2.0
#include "device/cuda/launch.cuh"
#include "kernels/cuda/philox.cuh"
#include "kernels/cuda/random_normal.h"
#include "kernels/cuda/rows.cuh"

namespace trireme::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kBlocksPerSm = 8;

// Box-Muller: two uniforms in (0, 1] make two normals.
__device__ void NormalPair(uint32_t bits_a, uint32_t bits_b, float std, float& a, float& b) {
  const float u = (static_cast<float>(bits_a >> 8) + 1.0f) * (1.0f / 16777216.0f);
  const float angle = static_cast<float>(bits_b >> 8) * (1.0f / 8388608.0f);  // in turns of pi
  const float radius = std * sqrtf(-2.0f * logf(u));
  float sine;
  float cosine;
  sincospif(angle, &sine, &cosine);
  a = radius * cosine;
  b = radius * sine;
}

template <typename T>
__device__ T Round(float x) {
  if constexpr (sizeof(T) == 1) {
    return __nv_fp8_e4m3(x);  // saturates
  } else {
    return FromFloat<T>(x);
  }
}

template <typename T>
__global__ void RandomNormalKernel(const __grid_constant__ RandomNormalParams p) {
  cudaGridDependencySynchronize();
  T* y = static_cast<T*>(p.y);
  const int64_t step = int64_t{gridDim.x} * kThreads * 8;
  for (int64_t i = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * 8; i < p.count; i += step) {
    float values[8];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const uint4 bits = PhiloxBits(p.seed, static_cast<uint64_t>(i / 4 + half));
      NormalPair(bits.x, bits.y, p.std, values[4 * half], values[4 * half + 1]);
      NormalPair(bits.z, bits.w, p.std, values[4 * half + 2], values[4 * half + 3]);
    }
    if (i + 8 <= p.count) {
      StoreFloats8(y + i, values);
    } else {
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        if (i + j < p.count) y[i + j] = Round<T>(values[j]);
      }
    }
  }
}

}  // namespace

cudaError_t RandomNormal(const RandomNormalParams& p, LaunchContext& context) {
  if (p.count <= 0) return cudaErrorInvalidValue;
  const int64_t wanted = (p.count + kThreads * 8 - 1) / (kThreads * 8);
  const int64_t most = int64_t{context.num_sms} * kBlocksPerSm;
  const LaunchShape shape{.grid = dim3(static_cast<unsigned>(wanted < most ? wanted : most)),
                          .block = dim3(kThreads)};
  switch (p.dtype) {
    case Element::kFloat32:
      return Launch(context, "RandomNormal", shape, RandomNormalKernel<float>, p);
    case Element::kFloat8E4M3:
      return Launch(context, "RandomNormal", shape, RandomNormalKernel<__nv_fp8_e4m3>, p);
    default:
      return DispatchHalf(p.dtype, [&](auto t) {
        return Launch(context, "RandomNormal", shape,
                      RandomNormalKernel<typename decltype(t)::Type>, p);
      });
  }
}

}  // namespace trireme::cuda
