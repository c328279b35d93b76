// SPDX-License-Identifier: Apache-2.0
#include "device/cuda/launch.cuh"
#include "kernels/cuda/activation.h"
#include "kernels/cuda/rows.cuh"

namespace trireme::cuda {
namespace {

constexpr int kThreads = 256;

__device__ float Apply(Activation activation, float x) {
  switch (activation) {
    case Activation::kSilu: return __fdividef(x, 1.0f + __expf(-x));
    case Activation::kGelu: return 0.5f * x * erfcf(-x * 0.707106781f);
    case Activation::kGeluTanh: {
      const float u = 0.797884561f * (x + 0.044715f * x * x * x);
      return 0.5f * x * (1.0f + tanhf(u));
    }
    case Activation::kRelu: return x > 0.0f ? x : 0.0f;
  }
  return x;
}

// Eight values a thread; blockIdx.x a token, blockIdx.y a stretch of its row.
template <typename T, typename Out>
__global__ void ActivationKernel(const __grid_constant__ ActivationParams p) {
  cudaTriggerProgrammaticLaunchCompletion();
  cudaGridDependencySynchronize();
  const int64_t token = blockIdx.x;
  if (token >= *p.num_tokens) return;
  const int i = static_cast<int>(blockIdx.y * kThreads + threadIdx.x) * 8;
  if (i >= p.size) return;
  float values[8];
  LoadFloats8(static_cast<const T*>(p.x) + token * p.x_stride + i, values);
#pragma unroll
  for (float& value : values) value = Apply(p.activation, value);
  if (p.up) {
    float up[8];
    LoadFloats8(static_cast<const T*>(p.up) + token * p.up_stride + i, up);
#pragma unroll
    for (int j = 0; j < 8; ++j) values[j] *= up[j];
  }
  StoreScaled8(static_cast<Out*>(p.y) + token * p.y_stride + i, values, p.y_scale);
}

}  // namespace

cudaError_t Activate(const ActivationParams& p, LaunchContext& context) {
  if (p.size <= 0 || p.size % 8 != 0 || p.max_tokens <= 0 || p.x_stride % 8 != 0 ||
      p.up_stride % 8 != 0 || p.y_stride % 8 != 0) {
    return cudaErrorInvalidValue;
  }
  const int stretches = (p.size / 8 + kThreads - 1) / kThreads;
  const LaunchShape shape{
      .grid = dim3(static_cast<unsigned>(p.max_tokens), static_cast<unsigned>(stretches)),
      .block = dim3(kThreads)};
  return DispatchHalfAndOutput(p.dtype, p.y_dtype, [&](auto t, auto out) {
    using T = typename decltype(t)::Type;
    using Out = typename decltype(out)::Type;
    return Launch(context, "Activate", shape, ActivationKernel<T, Out>, p);
  });
}

}  // namespace trireme::cuda
