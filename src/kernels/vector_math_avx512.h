// SPDX-License-Identifier: Apache-2.0
// Vector of 16 floats, its loads and stores for each storage type, and vector_math.h over it. Pure
// functions; include from *_avx512.cc only.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/vector_math.h"
#include "tensor/float_formats.h"

namespace trireme::kernels {

struct Avx512 {
  using F = __m512;
  static constexpr int kWidth = 16;

  static TRIREME_ALWAYS_INLINE F Set(float x) { return _mm512_set1_ps(x); }
  static TRIREME_ALWAYS_INLINE F Zero() { return _mm512_setzero_ps(); }
  static TRIREME_ALWAYS_INLINE F Iota() {
    return _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  }
  static TRIREME_ALWAYS_INLINE float First(F a) { return _mm512_cvtss_f32(a); }
  static TRIREME_ALWAYS_INLINE F Add(F a, F b) { return _mm512_add_ps(a, b); }
  static TRIREME_ALWAYS_INLINE F Sub(F a, F b) { return _mm512_sub_ps(a, b); }
  static TRIREME_ALWAYS_INLINE F Mul(F a, F b) { return _mm512_mul_ps(a, b); }
  static TRIREME_ALWAYS_INLINE F Div(F a, F b) { return _mm512_div_ps(a, b); }
  static TRIREME_ALWAYS_INLINE F Fmadd(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static TRIREME_ALWAYS_INLINE F Fnmadd(F a, F b, F c) { return _mm512_fnmadd_ps(a, b, c); }
  // Either operand NaN: the second.
  static TRIREME_ALWAYS_INLINE F Max(F a, F b) { return _mm512_max_ps(a, b); }
  static TRIREME_ALWAYS_INLINE F Min(F a, F b) { return _mm512_min_ps(a, b); }
  static TRIREME_ALWAYS_INLINE F Abs(F a) { return _mm512_abs_ps(a); }
  static TRIREME_ALWAYS_INLINE F Sqrt(F a) { return _mm512_sqrt_ps(a); }
  static TRIREME_ALWAYS_INLINE F Round(F a) {
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  static TRIREME_ALWAYS_INLINE F ScaleByPowerOfTwo(F a, F n) { return _mm512_scalef_ps(a, n); }
  // Per lane: x < 0 (or -0) ? negative : other.
  static TRIREME_ALWAYS_INLINE F SelectNegative(F x, F negative, F other) {
    return _mm512_mask_mov_ps(other, _mm512_movepi32_mask(_mm512_castps_si512(x)), negative);
  }
  // Lane i of the result: first <= i < last ? a : other.
  static TRIREME_ALWAYS_INLINE F KeepLanes(F a, int first, int last, F other) {
    return _mm512_mask_mov_ps(other, static_cast<__mmask16>(LowMask(last) & ~LowMask(first)), a);
  }

  static TRIREME_ALWAYS_INLINE F Load(const float* p) { return _mm512_loadu_ps(p); }
  static TRIREME_ALWAYS_INLINE F Load(const bfloat16_t* p) {
    return Widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static TRIREME_ALWAYS_INLINE F Load(const float16_t* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static TRIREME_ALWAYS_INLINE void Store(float* p, F a) { _mm512_storeu_ps(p, a); }
  static TRIREME_ALWAYS_INLINE void Store(bfloat16_t* p, F a) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), Narrow(a));
  }
  static TRIREME_ALWAYS_INLINE void Store(float16_t* p, F a) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
  }

  // The first n elements, 0 <= n <= 16; lanes from n on are zero. Touches nothing past them.
  static TRIREME_ALWAYS_INLINE F LoadFirst(const float* p, int n) {
    return _mm512_maskz_loadu_ps(LowMask(n), p);
  }
  static TRIREME_ALWAYS_INLINE F LoadFirst(const bfloat16_t* p, int n) {
    return Widen(_mm256_maskz_loadu_epi16(LowMask(n), p));
  }
  static TRIREME_ALWAYS_INLINE F LoadFirst(const float16_t* p, int n) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(LowMask(n), p));
  }
  static TRIREME_ALWAYS_INLINE void StoreFirst(float* p, F a, int n) {
    _mm512_mask_storeu_ps(p, LowMask(n), a);
  }

  // Fixed trees: the same lanes always add up in the same order.
  static TRIREME_ALWAYS_INLINE float ReduceAdd(F a) {
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
  }
  static TRIREME_ALWAYS_INLINE float ReduceMax(F a) { return _mm512_reduce_max_ps(a); }

 private:
  static TRIREME_ALWAYS_INLINE __mmask16 LowMask(int n) {
    return static_cast<__mmask16>((uint32_t{1} << n) - 1);
  }
  static TRIREME_ALWAYS_INLINE F Widen(__m256i bits) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
  }
  // As ToBFloat16, bit for bit (vcvtneps2bf16 flushes subnormals).
  static TRIREME_ALWAYS_INLINE __m256i Narrow(F a) {
    const __m512i u = _mm512_castps_si512(a);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
    const __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), odd);
    const __m512i quiet = _mm512_or_si512(u, _mm512_set1_epi32(0x00400000));
    const __mmask16 nan = _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q);
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_mask_mov_epi32(rounded, nan, quiet), 16));
  }
};

TRIREME_ALWAYS_INLINE __m512 Exp(__m512 x) { return VectorExp<Avx512>(x); }
TRIREME_ALWAYS_INLINE __m512 Tanh(__m512 x) { return VectorTanh<Avx512>(x); }
TRIREME_ALWAYS_INLINE __m512 Silu(__m512 x) { return VectorSilu<Avx512>(x); }
TRIREME_ALWAYS_INLINE __m512 Gelu(__m512 x) { return VectorGelu<Avx512>(x); }
TRIREME_ALWAYS_INLINE __m512 GeluTanh(__m512 x) { return VectorGeluTanh<Avx512>(x); }
TRIREME_ALWAYS_INLINE __m512 Relu(__m512 x) { return _mm512_max_ps(_mm512_setzero_ps(), x); }

}  // namespace trireme::kernels
