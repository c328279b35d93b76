// SPDX-License-Identifier: Apache-2.0
// Vector of 8 floats, its loads and stores for each storage type, and vector_math.h over it. Pure
// functions; include from *_avx2.cc only.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/vector_math.h"
#include "tensor/float_formats.h"

namespace trireme::kernels {

struct Avx2 {
  using F = __m256;
  static constexpr int kWidth = 8;

  static TRIREME_ALWAYS_INLINE F Set(float x) { return _mm256_set1_ps(x); }
  static TRIREME_ALWAYS_INLINE F Zero() { return _mm256_setzero_ps(); }
  static TRIREME_ALWAYS_INLINE F Iota() { return _mm256_setr_ps(0, 1, 2, 3, 4, 5, 6, 7); }
  static TRIREME_ALWAYS_INLINE float First(F a) { return _mm256_cvtss_f32(a); }
  static TRIREME_ALWAYS_INLINE F Add(F a, F b) { return _mm256_add_ps(a, b); }
  static TRIREME_ALWAYS_INLINE F Sub(F a, F b) { return _mm256_sub_ps(a, b); }
  static TRIREME_ALWAYS_INLINE F Mul(F a, F b) { return _mm256_mul_ps(a, b); }
  static TRIREME_ALWAYS_INLINE F Div(F a, F b) { return _mm256_div_ps(a, b); }
  static TRIREME_ALWAYS_INLINE F Fmadd(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  static TRIREME_ALWAYS_INLINE F Fnmadd(F a, F b, F c) { return _mm256_fnmadd_ps(a, b, c); }
  // Either operand NaN: the second.
  static TRIREME_ALWAYS_INLINE F Max(F a, F b) { return _mm256_max_ps(a, b); }
  static TRIREME_ALWAYS_INLINE F Min(F a, F b) { return _mm256_min_ps(a, b); }
  static TRIREME_ALWAYS_INLINE F Abs(F a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
  static TRIREME_ALWAYS_INLINE F Sqrt(F a) { return _mm256_sqrt_ps(a); }
  static TRIREME_ALWAYS_INLINE F Round(F a) {
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  // In two steps, so that 2^n may lie outside the range of normal floats, |n| <= 252. The first
  // product is exact.
  static TRIREME_ALWAYS_INLINE F ScaleByPowerOfTwo(F a, F n) {
    const __m256i whole = _mm256_cvtps_epi32(n);
    const __m256i half = _mm256_srai_epi32(whole, 1);
    return _mm256_mul_ps(_mm256_mul_ps(a, PowerOfTwo(half)),
                         PowerOfTwo(_mm256_sub_epi32(whole, half)));
  }
  // Per lane: x < 0 (or -0) ? negative : other.
  static TRIREME_ALWAYS_INLINE F SelectNegative(F x, F negative, F other) {
    return _mm256_blendv_ps(other, negative, x);
  }
  // Lane i of the result: first <= i < last ? a : other.
  static TRIREME_ALWAYS_INLINE F KeepLanes(F a, int first, int last, F other) {
    const __m256i keep = _mm256_andnot_si256(LowMask(first), LowMask(last));
    return _mm256_blendv_ps(other, a, _mm256_castsi256_ps(keep));
  }

  static TRIREME_ALWAYS_INLINE F Load(const float* p) { return _mm256_loadu_ps(p); }
  static TRIREME_ALWAYS_INLINE F Load(const bfloat16_t* p) {
    return Widen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static TRIREME_ALWAYS_INLINE F Load(const float16_t* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static TRIREME_ALWAYS_INLINE void Store(float* p, F a) { _mm256_storeu_ps(p, a); }
  static TRIREME_ALWAYS_INLINE void Store(bfloat16_t* p, F a) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), Narrow(a));
  }
  static TRIREME_ALWAYS_INLINE void Store(float16_t* p, F a) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
  }

  // The first n elements, 0 <= n <= 8; lanes from n on are zero. Touches nothing past them.
  static TRIREME_ALWAYS_INLINE F LoadFirst(const float* p, int n) {
    return _mm256_maskload_ps(p, LowMask(n));
  }
  static TRIREME_ALWAYS_INLINE F LoadFirst(const bfloat16_t* p, int n) {
    return Load(reinterpret_cast<const bfloat16_t*>(Partial16(p, n).bits));
  }
  static TRIREME_ALWAYS_INLINE F LoadFirst(const float16_t* p, int n) {
    return Load(reinterpret_cast<const float16_t*>(Partial16(p, n).bits));
  }
  static TRIREME_ALWAYS_INLINE void StoreFirst(float* p, F a, int n) {
    _mm256_maskstore_ps(p, LowMask(n), a);
  }

  // Fixed trees: the same lanes always add up in the same order.
  static TRIREME_ALWAYS_INLINE float ReduceAdd(F a) {
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
  }
  static TRIREME_ALWAYS_INLINE float ReduceMax(F a) {
    __m128 q = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    q = _mm_max_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_max_ss(q, _mm_movehdup_ps(q)));
  }

 private:
  struct Partial {
    uint16_t bits[8];
  };
  template <typename T>
  static TRIREME_ALWAYS_INLINE Partial Partial16(const T* p, int n) {
    Partial partial = {};
    for (int i = 0; i < n; ++i) partial.bits[i] = p[i].bits;
    return partial;
  }
  static TRIREME_ALWAYS_INLINE __m256i LowMask(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static TRIREME_ALWAYS_INLINE F PowerOfTwo(__m256i n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
  }
  static TRIREME_ALWAYS_INLINE F Widen(__m128i bits) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
  }
  // As ToBFloat16, bit for bit.
  static TRIREME_ALWAYS_INLINE __m128i Narrow(F a) {
    const __m256i u = _mm256_castps_si256(a);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
    const __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7fff)), odd);
    const __m256i quiet = _mm256_or_si256(u, _mm256_set1_epi32(0x00400000));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q));
    const __m256i bits = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
    return _mm_packus_epi32(_mm256_castsi256_si128(bits), _mm256_extracti128_si256(bits, 1));
  }
};

TRIREME_ALWAYS_INLINE __m256 Exp(__m256 x) { return VectorExp<Avx2>(x); }
TRIREME_ALWAYS_INLINE __m256 Tanh(__m256 x) { return VectorTanh<Avx2>(x); }
TRIREME_ALWAYS_INLINE __m256 Silu(__m256 x) { return VectorSilu<Avx2>(x); }
TRIREME_ALWAYS_INLINE __m256 Gelu(__m256 x) { return VectorGelu<Avx2>(x); }
TRIREME_ALWAYS_INLINE __m256 GeluTanh(__m256 x) { return VectorGeluTanh<Avx2>(x); }
TRIREME_ALWAYS_INLINE __m256 Relu(__m256 x) { return _mm256_max_ps(_mm256_setzero_ps(), x); }

}  // namespace trireme::kernels
