// SPDX-License-Identifier: Apache-2.0
// AVX2 micro-kernels of the linear layers, over the layouts of the AVX-512 ones and, save for
// bfloat16_dot, with their bits. A tile walks its block in strips as wide as sixteen registers
// allow. Thread-safe.
#include <immintrin.h>

#include <cstring>

#include "kernels/linear_epilogue.h"
#include "kernels/linear_variant.h"
#include "kernels/vector_math_avx2.h"

namespace trireme::kernels {
namespace {

// Unrolls a loop over registers completely.
#define TRIREME_UNROLL _Pragma("GCC unroll 16")

constexpr int kFloatRows = 6;
constexpr int kIntegerRows = 4;

// Vectors of a strip: accumulators of all rows fill at most twelve registers (integer tiles have
// two kinds of them, four of each). Blocks are four vectors wide or eight.
constexpr int FloatVectors(int rows) { return rows <= 3 ? 4 : 2; }
constexpr int IntegerVectors(int rows) { return rows == 1 ? 4 : rows == 2 ? 2 : 1; }

// Float weights by FMA: one vector of weights for each of kUnit successive inputs.
struct Float32Weights {
  static constexpr int kUnit = 1;
  static constexpr int64_t kVectorBytes = 32;  // of kUnit inputs, 8 outputs
  __m256 v[1];
  TRIREME_ALWAYS_INLINE explicit Float32Weights(const std::byte* w)
      : v{_mm256_loadu_ps(reinterpret_cast<const float*>(w))} {}
};
struct Float16Weights {
  static constexpr int kUnit = 1;
  static constexpr int64_t kVectorBytes = 16;
  __m256 v[1];
  TRIREME_ALWAYS_INLINE explicit Float16Weights(const std::byte* w)
      : v{_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w)))} {}
};
struct BFloat16Weights {
  static constexpr int kUnit = 2;
  static constexpr int64_t kVectorBytes = 32;
  __m256 v[2];
  TRIREME_ALWAYS_INLINE explicit BFloat16Weights(const std::byte* w) {
    const __m256i pairs = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w));
    v[0] = _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16));
    v[1] = _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32(-65536)));
  }
};

template <typename Weights, int kRows, int kVectors>
TRIREME_ALWAYS_INLINE void FmaStep(const std::byte* w, const float* x, int64_t x_stride, int inputs,
                                   __m256 (&sum)[kRows][kVectors]) {
  TRIREME_UNROLL for (int j = 0; j < kVectors; ++j) {
    const Weights weights(w + j * Weights::kVectorBytes);
    TRIREME_UNROLL for (int u = 0; u < Weights::kUnit; ++u) {
      if (u >= inputs) break;
      TRIREME_UNROLL for (int r = 0; r < kRows; ++r) {
        const __m256 value = _mm256_set1_ps(x[r * x_stride + u]);
        sum[r][j] = _mm256_fmadd_ps(weights.v[u], value, sum[r][j]);
      }
    }
  }
}

// Outputs [8 * first, 8 * (first + kVectors)) of the block.
template <typename Weights, int kBlockN, int kRows, int kVectors>
TRIREME_ALWAYS_INLINE void FmaStrip(const LinearTile& t, int first) {
  constexpr int64_t kStepBytes = kBlockN / 8 * Weights::kVectorBytes;
  const std::byte* w = t.block + t.k_begin / Weights::kUnit * kStepBytes;
  w += first * Weights::kVectorBytes;
  const float* x = reinterpret_cast<const float*>(t.x.values);
  const int64_t x_stride = t.x.row_bytes / static_cast<int64_t>(sizeof(float));
  float* out = t.accumulators + first * 8;
  __m256 sum[kRows][kVectors];
  TRIREME_UNROLL for (int r = 0; r < kRows; ++r) {
    TRIREME_UNROLL for (int j = 0; j < kVectors; ++j) {
      sum[r][j] = _mm256_loadu_ps(out + r * kBlockN + j * 8);
    }
  }
  int64_t k = t.k_begin;
  for (; k + Weights::kUnit <= t.k_end; k += Weights::kUnit, w += kStepBytes) {
    FmaStep<Weights, kRows, kVectors>(w, x + k, x_stride, Weights::kUnit, sum);
  }
  if (k < t.k_end) FmaStep<Weights, kRows, kVectors>(w, x + k, x_stride, 1, sum);
  TRIREME_UNROLL for (int r = 0; r < kRows; ++r) {
    TRIREME_UNROLL for (int j = 0; j < kVectors; ++j) {
      _mm256_storeu_ps(out + r * kBlockN + j * 8, sum[r][j]);
    }
  }
}

template <typename Weights, int kBlockN, int kRows>
void FmaTile(const LinearTile& t) {
  constexpr int kVectors = FloatVectors(kRows);
  for (int first = 0; first < kBlockN / 8; first += kVectors) {
    FmaStrip<Weights, kBlockN, kRows, kVectors>(t, first);
  }
}

// sums += weights * x for one vector of quads per kVectors. There is no exact u8 * s8 product in
// AVX2 (vpmaddubsw saturates), so even and odd bytes are widened to 16 bits and multiplied apart.
template <int kRows, int kVectors>
TRIREME_ALWAYS_INLINE void DotQuads(const __m256i (&weights)[kVectors], const std::byte* x,
                                    int64_t row_bytes, __m256i (&sums)[kRows][kVectors]) {
  const __m256i low_bytes = _mm256_set1_epi16(0xff);
  TRIREME_UNROLL for (int r = 0; r < kRows; ++r) {
    int32_t quad;
    std::memcpy(&quad, x + r * row_bytes, sizeof(quad));
    const __m256i value = _mm256_set1_epi32(quad);
    const __m256i even = _mm256_srai_epi16(_mm256_slli_epi16(value, 8), 8);
    const __m256i odd = _mm256_srai_epi16(value, 8);
    TRIREME_UNROLL for (int j = 0; j < kVectors; ++j) {
      const __m256i w_even = _mm256_and_si256(weights[j], low_bytes);
      const __m256i w_odd = _mm256_srli_epi16(weights[j], 8);
      const __m256i products =
          _mm256_add_epi32(_mm256_madd_epi16(w_even, even), _mm256_madd_epi16(w_odd, odd));
      sums[r][j] = _mm256_add_epi32(sums[r][j], products);
    }
  }
}

// One activation group of 32 inputs: eight quads of int8, or four pairs of quads of int4.
template <bool kInt4, int kBlockN, int kRows, int kVectors>
TRIREME_ALWAYS_INLINE void DotGroup(const std::byte* w, const std::byte* x, int64_t row_bytes,
                                    __m256i (&sums)[kRows][kVectors]) {
  const __m256i low_nibbles = _mm256_set1_epi8(15);
  for (int step = 0; step < (kInt4 ? 4 : 8); ++step, w += kBlockN * 4, x += kInt4 ? 8 : 4) {
    __m256i bytes[kVectors];
    __m256i weights[kVectors];
    TRIREME_UNROLL for (int j = 0; j < kVectors; ++j) {
      bytes[j] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w + j * 32));
      weights[j] = kInt4 ? _mm256_and_si256(bytes[j], low_nibbles) : bytes[j];
    }
    DotQuads<kRows, kVectors>(weights, x, row_bytes, sums);
    if constexpr (kInt4) {
      TRIREME_UNROLL for (int j = 0; j < kVectors; ++j) {
        weights[j] = _mm256_and_si256(_mm256_srli_epi16(bytes[j], 4), low_nibbles);
      }
      DotQuads<kRows, kVectors>(weights, x + 4, row_bytes, sums);
    }
  }
}

// sum += scale * (the group's exact integer dot products), for each row.
template <bool kInt4, bool kInt16, int kBlockN, int kRows, int kVectors>
TRIREME_ALWAYS_INLINE void AddGroup(const std::byte* w, const LinearActivation& x, int64_t group,
                                    __m256 (&sum)[kRows][kVectors]) {
  const std::byte* values = x.values + group * (kActivationGroup * (kInt16 ? 2 : 1));
  __m256i dot[kRows][kVectors];
  TRIREME_UNROLL for (int r = 0; r < kRows; ++r) {
    TRIREME_UNROLL for (int j = 0; j < kVectors; ++j) dot[r][j] = _mm256_setzero_si256();
  }
  DotGroup<kInt4, kBlockN, kRows, kVectors>(w, values, x.row_bytes, dot);
  if constexpr (kInt16) {
    TRIREME_UNROLL for (int r = 0; r < kRows; ++r) {
      TRIREME_UNROLL for (int j = 0; j < kVectors; ++j) {
        dot[r][j] = _mm256_slli_epi32(dot[r][j], 7);
      }
    }
    DotGroup<kInt4, kBlockN, kRows, kVectors>(w, values + kActivationGroup, x.row_bytes, dot);
  }
  TRIREME_UNROLL for (int r = 0; r < kRows; ++r) {
    const __m256i offset = _mm256_set1_epi32(x.offsets[r * x.groups + group]);
    const __m256 scale = _mm256_set1_ps(x.scales[r * x.groups + group]);
    TRIREME_UNROLL for (int j = 0; j < kVectors; ++j) {
      const __m256 value = _mm256_cvtepi32_ps(_mm256_add_epi32(dot[r][j], offset));
      sum[r][j] = _mm256_fmadd_ps(value, scale, sum[r][j]);
    }
  }
}

// One weight group, inputs [k, end), of the strip that starts at vector `first`.
template <bool kInt4, bool kInt16, int kBlockN, int kRows, int kVectors>
TRIREME_ALWAYS_INLINE void IntegerStrip(const LinearTile& t, int first, int64_t k, int64_t end) {
  constexpr int64_t kGroupBytes = kActivationGroup * kBlockN / (kInt4 ? 2 : 1);
  constexpr int64_t kScaleBytes = kBlockN * 4;
  const int64_t weight_group = k / t.weight_group;
  const int64_t x_groups = t.weight_group / kActivationGroup;
  const std::byte* scales = t.block + weight_group * (kScaleBytes + x_groups * kGroupBytes);
  const std::byte* w = scales + kScaleBytes + first * 32;
  float* out = t.accumulators + first * 8;
  __m256 sum[kRows][kVectors];
  TRIREME_UNROLL for (int r = 0; r < kRows; ++r) {
    TRIREME_UNROLL for (int j = 0; j < kVectors; ++j) {
      sum[r][j] = t.one_group ? _mm256_loadu_ps(out + r * kBlockN + j * 8) : _mm256_setzero_ps();
    }
  }
  for (int64_t g = k / kActivationGroup; g < end / kActivationGroup; ++g) {
    const std::byte* group = w + (g - weight_group * x_groups) * kGroupBytes;
    AddGroup<kInt4, kInt16, kBlockN, kRows, kVectors>(group, t.x, g, sum);
  }
  TRIREME_UNROLL for (int r = 0; r < kRows; ++r) {
    TRIREME_UNROLL for (int j = 0; j < kVectors; ++j) {
      float* at = out + r * kBlockN + j * 8;
      if (!t.one_group) {
        const float* scale = reinterpret_cast<const float*>(scales) + (first + j) * 8;
        sum[r][j] = _mm256_fmadd_ps(sum[r][j], _mm256_loadu_ps(scale), _mm256_loadu_ps(at));
      }
      _mm256_storeu_ps(at, sum[r][j]);
    }
  }
}

template <bool kInt4, bool kInt16, int kBlockN, int kRows>
void IntegerTile(const LinearTile& t) {
  constexpr int kVectors = IntegerVectors(kRows);
  const int64_t step = t.one_group ? t.k_end - t.k_begin : t.weight_group;
  for (int64_t k = t.k_begin; k < t.k_end; k += step) {
    const int64_t end = k + step < t.k_end ? k + step : t.k_end;
    for (int first = 0; first < kBlockN / 8; first += kVectors) {
      IntegerStrip<kInt4, kInt16, kBlockN, kRows, kVectors>(t, first, k, end);
    }
  }
}

void Finish(const LinearEpilogue& e) { FinishTile<Avx2>(e); }

template <typename Weights, int kBlockN>
constexpr LinearVariant::MicroKernel kFmaTiles[kFloatRows] = {
    &FmaTile<Weights, kBlockN, 1>, &FmaTile<Weights, kBlockN, 2>, &FmaTile<Weights, kBlockN, 3>,
    &FmaTile<Weights, kBlockN, 4>, &FmaTile<Weights, kBlockN, 5>, &FmaTile<Weights, kBlockN, 6>};

template <bool kInt4, bool kInt16, int kBlockN>
constexpr LinearVariant::MicroKernel kIntegerTiles[kIntegerRows] = {
    &IntegerTile<kInt4, kInt16, kBlockN, 1>, &IntegerTile<kInt4, kInt16, kBlockN, 2>,
    &IntegerTile<kInt4, kInt16, kBlockN, 3>, &IntegerTile<kInt4, kInt16, kBlockN, 4>};

template <typename Weights, int kBlockN>
LinearVariant FmaVariant(const char* name, WeightLayout layout, KernelVariant* log) {
  return {.name = name,
          .numerics = kFmaNumerics,
          .layout = layout,
          .activation = ActivationFormat::kFloat32,
          .block_n = kBlockN,
          .max_rows = kFloatRows,
          .micro = kFmaTiles<Weights, kBlockN>,
          .epilogue = Finish,
          .log = log};
}

template <bool kInt4, bool kInt16, int kBlockN>
LinearVariant IntegerVariant(const char* name, KernelVariant* log) {
  return {.name = name,
          .numerics = kInt16 ? kInt16Numerics : kInt8Numerics,
          .layout = kInt4 ? WeightLayout::kInt4Quads : WeightLayout::kInt8Quads,
          .activation = kInt16 ? ActivationFormat::kInt16 : ActivationFormat::kInt8,
          .block_n = kBlockN,
          .max_rows = kIntegerRows,
          .micro = kIntegerTiles<kInt4, kInt16, kBlockN>,
          .convert = kInt16 ? QuantizeRowInt16 : QuantizeRowInt8,
          .epilogue = Finish,
          .log = log};
}

KernelVariant g_f32_n64("linear.avx2_f32_n64", Isa::kAvx2);
KernelVariant g_f32_n32("linear.avx2_f32_n32", Isa::kAvx2);
KernelVariant g_f16_n64("linear.avx2_f16_n64", Isa::kAvx2);
KernelVariant g_f16_n32("linear.avx2_f16_n32", Isa::kAvx2);
KernelVariant g_bf16_n64("linear.avx2_bf16_n64", Isa::kAvx2);
KernelVariant g_bf16_n32("linear.avx2_bf16_n32", Isa::kAvx2);
KernelVariant g_w8a8_n64("linear.avx2_w8a8_n64", Isa::kAvx2);
KernelVariant g_w8a8_n32("linear.avx2_w8a8_n32", Isa::kAvx2);
KernelVariant g_w8a16_n64("linear.avx2_w8a16_n64", Isa::kAvx2);
KernelVariant g_w8a16_n32("linear.avx2_w8a16_n32", Isa::kAvx2);
KernelVariant g_w4a8_n64("linear.avx2_w4a8_n64", Isa::kAvx2);
KernelVariant g_w4a8_n32("linear.avx2_w4a8_n32", Isa::kAvx2);
KernelVariant g_w4a16_n64("linear.avx2_w4a16_n64", Isa::kAvx2);
KernelVariant g_w4a16_n32("linear.avx2_w4a16_n32", Isa::kAvx2);

}  // namespace

std::span<const LinearVariant> Avx2LinearVariants() {
  using enum WeightLayout;
  static const LinearVariant variants[] = {
      FmaVariant<Float32Weights, 32>("avx2_f32_n32", kFloat32, &g_f32_n32),
      FmaVariant<Float32Weights, 64>("avx2_f32_n64", kFloat32, &g_f32_n64),
      FmaVariant<Float16Weights, 32>("avx2_f16_n32", kFloat16, &g_f16_n32),
      FmaVariant<Float16Weights, 64>("avx2_f16_n64", kFloat16, &g_f16_n64),
      FmaVariant<BFloat16Weights, 32>("avx2_bf16_n32", kBFloat16Pairs, &g_bf16_n32),
      FmaVariant<BFloat16Weights, 64>("avx2_bf16_n64", kBFloat16Pairs, &g_bf16_n64),
      IntegerVariant<false, false, 32>("avx2_w8a8_n32", &g_w8a8_n32),
      IntegerVariant<false, false, 64>("avx2_w8a8_n64", &g_w8a8_n64),
      IntegerVariant<false, true, 32>("avx2_w8a16_n32", &g_w8a16_n32),
      IntegerVariant<false, true, 64>("avx2_w8a16_n64", &g_w8a16_n64),
      IntegerVariant<true, false, 32>("avx2_w4a8_n32", &g_w4a8_n32),
      IntegerVariant<true, false, 64>("avx2_w4a8_n64", &g_w4a8_n64),
      IntegerVariant<true, true, 32>("avx2_w4a16_n32", &g_w4a16_n32),
      IntegerVariant<true, true, 64>("avx2_w4a16_n64", &g_w4a16_n64),
  };
  return variants;
}

}  // namespace trireme::kernels
