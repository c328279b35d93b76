// SPDX-License-Identifier: Apache-2.0
// One head's rotary pairs and one token's cache slot, shared by the kernels that rotate or write, so
// that all of them give the same bits.
#pragma once

#include <cuda_fp8.h>

#include "kernels/cuda/rope_kv_write.h"
#include "kernels/cuda/vector.cuh"

namespace trireme::cuda {

// The elements that pair `pair` of [0, head_dim / 2) of a head consists of.
struct RotaryPair {
  int first;
  int second;
  bool rotated;  // else both are copied
};

__device__ inline RotaryPair PairOf(RotaryStyle style, int rotary_dim, int pair) {
  const int half = style == RotaryStyle::kNone ? 0 : rotary_dim / 2;
  if (pair < half && style == RotaryStyle::kNeox) return {pair, pair + half, true};
  return {2 * pair, 2 * pair + 1, pair < half};
}

__device__ inline void Rotate(float& a, float& b, float cos, float sin) {
  const float x = __fmaf_rn(a, cos, -__fmul_rn(b, sin));
  b = __fmaf_rn(b, cos, __fmul_rn(a, sin));
  a = x;
}

template <typename T>
__device__ T ToCache(float x, float inverse_scale);
template <>
__device__ inline __nv_bfloat16 ToCache<__nv_bfloat16>(float x, float) {
  return __float2bfloat16_rn(x);
}
template <>
__device__ inline __half ToCache<__half>(float x, float) {
  return __float2half_rn(x);
}
template <>
__device__ inline __nv_fp8_e4m3 ToCache<__nv_fp8_e4m3>(float x, float inverse_scale) {
  __nv_fp8_e4m3 y;
  y.__x = __nv_cvt_float_to_fp8(__fmul_rn(x, inverse_scale), __NV_SATFINITE, __NV_E4M3);
  return y;
}

// Keys (or values) of [block_size, head_dim] of one head in one block.
template <typename Cache>
__device__ inline Cache* HeadOfBlock(const KvView& kv, int64_t block, int layer, bool value,
                                     int kv_head) {
  const int64_t head = (int64_t{layer} * 2 + (value ? 1 : 0)) * kv.num_kv_heads + kv_head;
  return reinterpret_cast<Cache*>(static_cast<char*>(kv.pool) + block * kv.block_bytes) +
         head * kv.block_size * kv.head_dim;
}

}  // namespace trireme::cuda
