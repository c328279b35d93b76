// SPDX-License-Identifier: Apache-2.0
// What kernels over rows share: eight values at a time in any dtype, sums over the threads of a row,
// and the dispatch of a launcher over dtypes.
#pragma once

#include <cuda_fp8.h>

#include "kernels/cuda/types.h"
#include "kernels/cuda/vector.cuh"

namespace trireme::cuda {

constexpr int kWarpSize = 32;

template <typename T>
__device__ inline void LoadFloats8(const T* source, float (&values)[8]) {
  const Vector8<T> vector = Load8(source);
#pragma unroll
  for (int i = 0; i < 8; ++i) values[i] = ToFloat(vector.values[i]);
}
template <>
__device__ inline void LoadFloats8<float>(const float* source, float (&values)[8]) {
  const float4 low = reinterpret_cast<const float4*>(source)[0];
  const float4 high = reinterpret_cast<const float4*>(source)[1];
  values[0] = low.x, values[1] = low.y, values[2] = low.z, values[3] = low.w;
  values[4] = high.x, values[5] = high.y, values[6] = high.z, values[7] = high.w;
}

// Eight values of a T or float32 array.
template <typename T>
__device__ inline void LoadFloats8(const void* source, Element dtype, int index,
                                   float (&values)[8]) {
  if (dtype == Element::kFloat32) {
    LoadFloats8(static_cast<const float*>(source) + index, values);
  } else {
    LoadFloats8(static_cast<const T*>(source) + index, values);
  }
}

template <typename T>
__device__ inline void StoreFloats8(T* target, const float (&values)[8]) {
  Vector8<T> vector;
#pragma unroll
  for (int i = 0; i < 8; ++i) vector.values[i] = FromFloat<T>(values[i]);
  Store8(target, vector);
}
template <>
__device__ inline void StoreFloats8<float>(float* target, const float (&values)[8]) {
  reinterpret_cast<float4*>(target)[0] = make_float4(values[0], values[1], values[2], values[3]);
  reinterpret_cast<float4*>(target)[1] = make_float4(values[4], values[5], values[6], values[7]);
}
template <>
__device__ inline void StoreFloats8<__nv_fp8_e4m3>(__nv_fp8_e4m3* target,
                                                   const float (&values)[8]) {
  __nv_fp8x2_storage_t pairs[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    pairs[i] = __nv_cvt_float2_to_fp8x2(make_float2(values[2 * i], values[2 * i + 1]),
                                        __NV_SATFINITE, __NV_E4M3);
  }
  *reinterpret_cast<uint2*>(target) = make_uint2(static_cast<unsigned>(pairs[1]) << 16 | pairs[0],
                                                 static_cast<unsigned>(pairs[3]) << 16 | pairs[2]);
}

// Stores values * (1 / scale) in e4m3, values themselves in any other type.
template <typename Out>
__device__ inline void StoreScaled8(Out* target, float (&values)[8], float scale) {
  if constexpr (sizeof(Out) == 1) {
    // A division for each value would cost more than the memory it is written to.
    const float inverse = 1.0f / scale;
#pragma unroll
    for (float& value : values) value *= inverse;
  }
  StoreFloats8(target, values);
}

__device__ inline float WarpSum(float value) {
#pragma unroll
  for (int offset = kWarpSize / 2; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(0xffffffffu, value, offset);
  }
  return value;
}

// The sum over the threads that share threadIdx.y, in a fixed order, in every one of them.
// blockDim.x is a multiple of 32; above 32, blockDim.y is 1 and all threads call. `scratch` holds a
// float a warp and may be used again after the next barrier.
__device__ inline float RowSum(float value, float* scratch) {
  value = WarpSum(value);
  if (blockDim.x == kWarpSize) return value;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  if (lane == 0) scratch[warp] = value;
  __syncthreads();
  value = lane < static_cast<int>(blockDim.x) / kWarpSize ? scratch[lane] : 0.0f;
  return WarpSum(value);
}

template <typename T>
struct TypeTag {
  using Type = T;
};

// fn(TypeTag<T>) for the 16-bit float type; cudaErrorInvalidValue for any other.
template <typename Fn>
cudaError_t DispatchHalf(Element dtype, Fn fn) {
  switch (dtype) {
    case Element::kBFloat16: return fn(TypeTag<__nv_bfloat16>{});
    case Element::kFloat16: return fn(TypeTag<__half>{});
    default: return cudaErrorInvalidValue;
  }
}

// fn(TypeTag<T>, TypeTag<Out>): T 16-bit float, Out the same or e4m3.
template <typename Fn>
cudaError_t DispatchHalfAndOutput(Element dtype, Element out, Fn fn) {
  return DispatchHalf(dtype, [&](auto t) {
    if (out == dtype) return fn(t, t);
    if (out == Element::kFloat8E4M3) return fn(t, TypeTag<__nv_fp8_e4m3>{});
    return cudaErrorInvalidValue;
  });
}

}  // namespace trireme::cuda
