// SPDX-License-Identifier: Apache-2.0
// 16 bytes of bfloat16 or float16 at a time, to and from float32.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace trireme::cuda {

// Eight 16-bit values, loaded and stored as one.
template <typename T>
struct alignas(16) Vector8 {
  T values[8];
};

__device__ inline float ToFloat(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ inline float ToFloat(__half x) { return __half2float(x); }
__device__ inline float ToFloat(float x) { return x; }

template <typename T>
__device__ T FromFloat(float x);
template <>
__device__ inline __nv_bfloat16 FromFloat<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}
template <>
__device__ inline __half FromFloat<__half>(float x) {
  return __float2half_rn(x);
}
template <>
__device__ inline float FromFloat<float>(float x) {
  return x;
}

template <typename T>
__device__ inline Vector8<T> Load8(const T* source) {
  return *reinterpret_cast<const Vector8<T>*>(source);
}

template <typename T>
__device__ inline void Store8(T* target, const Vector8<T>& vector) {
  *reinterpret_cast<Vector8<T>*>(target) = vector;
}

}  // namespace trireme::cuda
