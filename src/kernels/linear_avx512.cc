// SPDX-License-Identifier: Apache-2.0
// AVX-512 micro-kernels of the linear layers (VNNI, BF16). Lanes hold outputs; every output is
// reduced over k in order, in one register, so tiles of any height agree bit for bit. Thread-safe.
#include <immintrin.h>

#include <cstring>
#include <iterator>

#include "kernels/linear_epilogue.h"
#include "kernels/linear_variant.h"
#include "kernels/vector_math_avx512.h"

namespace trireme::kernels {
namespace {

// Unrolls a loop over registers completely.
#define TRIREME_UNROLL _Pragma("GCC unroll 16")

// How far ahead of its use W is asked for. Tiles of many rows want it too: the first of them takes W
// from memory (16 rows of bfloat16: +20 % or more), and later ones do not mind. Two processors in two
// complexes of an AMD Zen 5 want 8 KB (3 % over 4 KB, 16 KB loses it again); in one, any of them does.
constexpr int64_t kPrefetchBytes = 8192;

TRIREME_ALWAYS_INLINE void PrefetchWeights(const std::byte* w) {
  _mm_prefetch(reinterpret_cast<const char*>(w + kPrefetchBytes), _MM_HINT_T0);
}

template <int kRows, int kVectors>
struct Accumulators {
  __m512 v[kRows][kVectors];

  TRIREME_ALWAYS_INLINE void Load(const float* p) {
    TRIREME_UNROLL for (int r = 0; r < kRows; ++r) {
      TRIREME_UNROLL for (int j = 0; j < kVectors; ++j) {
        v[r][j] = _mm512_loadu_ps(p + (r * kVectors + j) * 16);
      }
    }
  }
  TRIREME_ALWAYS_INLINE void Store(float* p) const {
    TRIREME_UNROLL for (int r = 0; r < kRows; ++r) {
      TRIREME_UNROLL for (int j = 0; j < kVectors; ++j) {
        _mm512_storeu_ps(p + (r * kVectors + j) * 16, v[r][j]);
      }
    }
  }
};

// Float weights by FMA: one vector of weights for each of kUnit successive inputs.
struct Float32Weights {
  static constexpr int kUnit = 1;
  static constexpr int64_t kVectorBytes = 64;  // of kUnit inputs, 16 outputs
  __m512 v[1];
  TRIREME_ALWAYS_INLINE explicit Float32Weights(const std::byte* w) : v{_mm512_loadu_ps(w)} {}
};
struct Float16Weights {
  static constexpr int kUnit = 1;
  static constexpr int64_t kVectorBytes = 32;
  __m512 v[1];
  TRIREME_ALWAYS_INLINE explicit Float16Weights(const std::byte* w)
      : v{_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(w)))} {}
};
struct BFloat16Weights {
  static constexpr int kUnit = 2;
  static constexpr int64_t kVectorBytes = 64;
  __m512 v[2];
  TRIREME_ALWAYS_INLINE explicit BFloat16Weights(const std::byte* w) {
    const __m512i pairs = _mm512_loadu_si512(w);
    v[0] = _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
    v[1] = _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(-65536)));
  }
};

template <typename Weights, int kRows, int kVectors>
TRIREME_ALWAYS_INLINE void FmaStep(const std::byte* w, const float* x, int64_t x_stride, int inputs,
                                   Accumulators<kRows, kVectors>& sum) {
  TRIREME_UNROLL for (int j = 0; j < kVectors; ++j) {
    const Weights weights(w + j * Weights::kVectorBytes);
    TRIREME_UNROLL for (int u = 0; u < Weights::kUnit; ++u) {
      if (u >= inputs) break;
      TRIREME_UNROLL for (int r = 0; r < kRows; ++r) {
        const __m512 value = _mm512_set1_ps(x[r * x_stride + u]);
        sum.v[r][j] = _mm512_fmadd_ps(weights.v[u], value, sum.v[r][j]);
      }
    }
  }
}

template <typename Weights, int kVectors, int kRows>
void FmaTile(const LinearTile& t) {
  constexpr int64_t kStepBytes = kVectors * Weights::kVectorBytes;
  const std::byte* w = t.block + t.k_begin / Weights::kUnit * kStepBytes;
  const float* x = reinterpret_cast<const float*>(t.x.values);
  const int64_t x_stride = t.x.row_bytes / static_cast<int64_t>(sizeof(float));
  Accumulators<kRows, kVectors> sum;
  sum.Load(t.accumulators);
  int64_t k = t.k_begin;
  for (; k + Weights::kUnit <= t.k_end; k += Weights::kUnit, w += kStepBytes) {
    TRIREME_UNROLL for (int64_t at = 0; at < kStepBytes; at += 64) PrefetchWeights(w + at);
    FmaStep<Weights, kRows, kVectors>(w, x + k, x_stride, Weights::kUnit, sum);
  }
  if (k < t.k_end) FmaStep<Weights, kRows, kVectors>(w, x + k, x_stride, 1, sum);
  sum.Store(t.accumulators);
}

// bfloat16 weights and activations by vdpbf16ps: two products and two sums a step, subnormals
// taken as zero.
template <int kVectors, int kRows>
void BFloat16Tile(const LinearTile& t) {
  constexpr int64_t kStepBytes = kVectors * 64;
  const std::byte* w = t.block + t.k_begin / 2 * kStepBytes;
  const std::byte* x = t.x.values + t.k_begin * 2;
  const int64_t row_bytes = t.x.row_bytes;
  Accumulators<kRows, kVectors> sum;
  sum.Load(t.accumulators);
  const int64_t pairs = (t.k_end - t.k_begin + 1) / 2;
  for (int64_t i = 0; i < pairs; ++i, w += kStepBytes, x += 4) {
    __m512bh weights[kVectors];
    TRIREME_UNROLL for (int j = 0; j < kVectors; ++j) {
      PrefetchWeights(w + j * 64);
      weights[j] = (__m512bh)_mm512_loadu_si512(w + j * 64);
    }
    TRIREME_UNROLL for (int r = 0; r < kRows; ++r) {
      int32_t pair;
      std::memcpy(&pair, x + r * row_bytes, sizeof(pair));
      const __m512bh value = (__m512bh)_mm512_set1_epi32(pair);
      TRIREME_UNROLL for (int j = 0; j < kVectors; ++j) {
        sum.v[r][j] = _mm512_dpbf16_ps(sum.v[r][j], weights[j], value);
      }
    }
  }
  sum.Store(t.accumulators);
}

template <int kRows, int kVectors>
struct IntegerSums {
  __m512i v[kRows][kVectors];
};

// sums += weights * x for one vector of quads per kVectors. Rows from kHighRows on are the low parts
// of the first ones' activations, one group further.
template <int kRows, int kVectors, int kHighRows>
TRIREME_ALWAYS_INLINE void DotQuads(const __m512i (&weights)[kVectors], const std::byte* x,
                                    int64_t row_bytes, IntegerSums<kRows, kVectors>& sums) {
  TRIREME_UNROLL for (int r = 0; r < kRows; ++r) {
    const std::byte* at =
        r < kHighRows ? x + r * row_bytes : x + (r - kHighRows) * row_bytes + kActivationGroup;
    int32_t quad;
    std::memcpy(&quad, at, sizeof(quad));
    const __m512i value = _mm512_set1_epi32(quad);
    TRIREME_UNROLL for (int j = 0; j < kVectors; ++j) {
      sums.v[r][j] = _mm512_dpbusd_epi32(sums.v[r][j], weights[j], value);
    }
  }
}

// One activation group of 32 inputs: eight quads of int8, or four pairs of quads of int4.
template <bool kInt4, int kRows, int kVectors, int kHighRows = kRows>
TRIREME_ALWAYS_INLINE void DotGroup(const std::byte* w, const std::byte* x, int64_t row_bytes,
                                    IntegerSums<kRows, kVectors>& sums) {
  __m512i weights[kVectors];
  if constexpr (kInt4) {
    const __m512i low_nibbles = _mm512_set1_epi8(15);
    TRIREME_UNROLL for (int step = 0; step < 4; ++step, w += kVectors * 64, x += 8) {
      __m512i bytes[kVectors];
      TRIREME_UNROLL for (int j = 0; j < kVectors; ++j) {
        PrefetchWeights(w + j * 64);
        bytes[j] = _mm512_loadu_si512(w + j * 64);
        weights[j] = _mm512_and_si512(bytes[j], low_nibbles);
      }
      DotQuads<kRows, kVectors, kHighRows>(weights, x, row_bytes, sums);
      TRIREME_UNROLL for (int j = 0; j < kVectors; ++j) {
        weights[j] = _mm512_and_si512(_mm512_srli_epi16(bytes[j], 4), low_nibbles);
      }
      DotQuads<kRows, kVectors, kHighRows>(weights, x + 4, row_bytes, sums);
    }
  } else {
    TRIREME_UNROLL for (int step = 0; step < 8; ++step, w += kVectors * 64, x += 4) {
      TRIREME_UNROLL for (int j = 0; j < kVectors; ++j) {
        PrefetchWeights(w + j * 64);
        weights[j] = _mm512_loadu_si512(w + j * 64);
      }
      DotQuads<kRows, kVectors, kHighRows>(weights, x, row_bytes, sums);
    }
  }
}

// The exact dot products of one group with 8-bit activations.
template <bool kInt4, int kRows, int kVectors>
TRIREME_ALWAYS_INLINE void DotInt8(const std::byte* w, const LinearActivation& x, int64_t group,
                                   IntegerSums<kRows, kVectors>& dot) {
  TRIREME_UNROLL for (int r = 0; r < kRows; ++r) {
    const __m512i start = _mm512_set1_epi32(x.offsets[r * x.groups + group]);
    TRIREME_UNROLL for (int j = 0; j < kVectors; ++j) dot.v[r][j] = start;
  }
  DotGroup<kInt4, kRows, kVectors>(w, x.values + group * kActivationGroup, x.row_bytes, dot);
}

// ... with 16-bit ones: 128 (w . high) + w . low. A tile twice as high, whose second half is the low
// parts, reads W once and has chains of sums enough to hide their latency.
template <bool kInt4, int kRows, int kVectors>
TRIREME_ALWAYS_INLINE void DotInt16(const std::byte* w, const LinearActivation& x, int64_t group,
                                    IntegerSums<kRows, kVectors>& dot) {
  IntegerSums<2 * kRows, kVectors> parts;
  TRIREME_UNROLL for (int r = 0; r < 2 * kRows; ++r) {
    const __m512i start = r < kRows ? _mm512_setzero_si512()
                                    : _mm512_set1_epi32(x.offsets[(r - kRows) * x.groups + group]);
    TRIREME_UNROLL for (int j = 0; j < kVectors; ++j) parts.v[r][j] = start;
  }
  DotGroup<kInt4, 2 * kRows, kVectors, kRows>(w, x.values + group * 2 * kActivationGroup,
                                              x.row_bytes, parts);
  TRIREME_UNROLL for (int r = 0; r < kRows; ++r) {
    TRIREME_UNROLL for (int j = 0; j < kVectors; ++j) {
      dot.v[r][j] = _mm512_add_epi32(_mm512_slli_epi32(parts.v[r][j], 7), parts.v[kRows + r][j]);
    }
  }
}

// sum += scale * (the group's exact integer dot products), for each row.
template <bool kInt4, bool kInt16, int kRows, int kVectors>
TRIREME_ALWAYS_INLINE void AddGroup(const std::byte* w, const LinearActivation& x, int64_t group,
                                    Accumulators<kRows, kVectors>& sum) {
  IntegerSums<kRows, kVectors> dot;
  if constexpr (kInt16) {
    DotInt16<kInt4, kRows, kVectors>(w, x, group, dot);
  } else {
    DotInt8<kInt4, kRows, kVectors>(w, x, group, dot);
  }
  TRIREME_UNROLL for (int r = 0; r < kRows; ++r) {
    const __m512 scale = _mm512_set1_ps(x.scales[r * x.groups + group]);
    TRIREME_UNROLL for (int j = 0; j < kVectors; ++j) {
      sum.v[r][j] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot.v[r][j]), scale, sum.v[r][j]);
    }
  }
}

template <bool kInt4, bool kInt16, int kVectors, int kRows>
void IntegerTile(const LinearTile& t) {
  constexpr int64_t kBlockN = kVectors * 16;
  constexpr int64_t kGroupBytes = kActivationGroup * kBlockN / (kInt4 ? 2 : 1);
  constexpr int64_t kScaleBytes = kBlockN * 4;
  const int64_t x_groups = t.weight_group / kActivationGroup;
  const LinearActivation x = t.x;
  Accumulators<kRows, kVectors> sum;
  if (t.one_group) {
    sum.Load(t.accumulators);
    const std::byte* w = t.block + kScaleBytes;
    for (int64_t g = t.k_begin / kActivationGroup; g < t.k_end / kActivationGroup; ++g) {
      AddGroup<kInt4, kInt16, kRows, kVectors>(w + g * kGroupBytes, x, g, sum);
    }
    sum.Store(t.accumulators);
    return;
  }
  for (int64_t k = t.k_begin; k < t.k_end; k += t.weight_group) {
    const std::byte* scales = t.block + k / t.weight_group * (kScaleBytes + x_groups * kGroupBytes);
    const std::byte* w = scales + kScaleBytes;
    const int64_t first = k / kActivationGroup;
    const int64_t left = (t.k_end - k) / kActivationGroup;
    TRIREME_UNROLL for (int r = 0; r < kRows; ++r) {
      TRIREME_UNROLL for (int j = 0; j < kVectors; ++j) sum.v[r][j] = _mm512_setzero_ps();
    }
    for (int64_t g = 0; g < x_groups && g < left; ++g) {
      AddGroup<kInt4, kInt16, kRows, kVectors>(w + g * kGroupBytes, x, first + g, sum);
    }
    TRIREME_UNROLL for (int j = 0; j < kVectors; ++j) {
      const __m512 scale = _mm512_loadu_ps(scales + j * 64);
      TRIREME_UNROLL for (int r = 0; r < kRows; ++r) {
        float* out = t.accumulators + (r * kVectors + j) * 16;
        _mm512_storeu_ps(out, _mm512_fmadd_ps(sum.v[r][j], scale, _mm512_loadu_ps(out)));
      }
    }
  }
}

void Finish(const LinearEpilogue& e) { FinishTile<Avx512>(e); }

void ConvertRowBFloat16(const LinearQuantizeRow& row) {
  const int64_t padded = (row.in_features + 31) / 32 * 32;
  for (int64_t k = 0; k < padded; k += 16) {
    const int64_t left = row.in_features - k;
    const __m512 x = left >= 16 ? _mm512_loadu_ps(row.x + k)
                     : left > 0 ? Avx512::LoadFirst(row.x + k, static_cast<int>(left))
                                : _mm512_setzero_ps();
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(row.values + k * 2),
                        (__m256i)_mm512_cvtneps_pbh(x));
  }
}

// The 32 inputs of one group as integers, and their scale and sum.
struct QuantizedGroup {
  __m512i q[2];
  float scale;
  int32_t sum;
};

TRIREME_ALWAYS_INLINE QuantizedGroup QuantizeGroup(const float* x, int64_t count, float levels) {
  const int first = count < 16 ? static_cast<int>(count) : 16;
  const int second = count < 32 ? static_cast<int>(count) - first : 16;
  const __m512 a = count >= 32 ? _mm512_loadu_ps(x) : Avx512::LoadFirst(x, first);
  const __m512 b = count >= 32 ? _mm512_loadu_ps(x + 16) : Avx512::LoadFirst(x + first, second);
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  // Magnitudes compare as integers, and infinity and NaN come out on top.
  const uint32_t bits = _mm512_reduce_max_epu32(
      _mm512_max_epu32(_mm512_and_si512(_mm512_castps_si512(a), magnitude),
                       _mm512_and_si512(_mm512_castps_si512(b), magnitude)));
  float largest;
  std::memcpy(&largest, &bits, sizeof(largest));
  QuantizedGroup group = {{_mm512_setzero_si512(), _mm512_setzero_si512()}, 0.0f, 0};
  if (bits >= 0x7f800000u) {
    group.scale = __builtin_nanf("");
    return group;
  }
  if (largest < kSmallestQuantized) return group;
  group.scale = largest / levels;
  const __m512 inverse = _mm512_set1_ps(levels / largest);
  group.q[0] = _mm512_cvtps_epi32(_mm512_mul_ps(a, inverse));
  group.q[1] = _mm512_cvtps_epi32(_mm512_mul_ps(b, inverse));
  group.sum = _mm512_reduce_add_epi32(_mm512_add_epi32(group.q[0], group.q[1]));
  return group;
}

TRIREME_ALWAYS_INLINE void StoreBytes(std::byte* out, __m512i a, __m512i b) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm512_cvtepi32_epi8(a));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 16), _mm512_cvtepi32_epi8(b));
}

template <bool kInt16>
void QuantizeRow(const LinearQuantizeRow& row) {
  std::byte* out = row.values;
  int64_t g = 0;
  for (int64_t k = 0; k < row.in_features; k += kActivationGroup, ++g) {
    const QuantizedGroup group =
        QuantizeGroup(row.x + k, row.in_features - k, kInt16 ? 16256.0f : 127.0f);
    if constexpr (kInt16) {
      __m512i high[2];
      __m512i low[2];
      TRIREME_UNROLL for (int i = 0; i < 2; ++i) {
        high[i] = _mm512_srai_epi32(_mm512_add_epi32(group.q[i], _mm512_set1_epi32(64)), 7);
        low[i] = _mm512_sub_epi32(group.q[i], _mm512_slli_epi32(high[i], 7));
      }
      StoreBytes(out, high[0], high[1]);
      StoreBytes(out + kActivationGroup, low[0], low[1]);
      out += 2 * kActivationGroup;
    } else {
      StoreBytes(out, group.q[0], group.q[1]);
      out += kActivationGroup;
    }
    row.scales[g] = group.scale;
    row.offsets[g] = -row.zero_point * group.sum;
  }
}

// Tiles of 1, 2, ... rows.
template <template <int> class Tile, int... kIndex>
struct TileTable {
  static constexpr LinearVariant::MicroKernel kTiles[] = {&Tile<kIndex + 1>::Run...};
};

template <typename Weights, int kVectors>
struct FmaTiles {
  template <int kRows>
  struct Tile {
    static void Run(const LinearTile& t) { FmaTile<Weights, kVectors, kRows>(t); }
  };
};
template <int kVectors>
struct BFloat16Tiles {
  template <int kRows>
  struct Tile {
    static void Run(const LinearTile& t) { BFloat16Tile<kVectors, kRows>(t); }
  };
};
template <bool kInt4, bool kInt16, int kVectors>
struct IntegerTiles {
  template <int kRows>
  struct Tile {
    static void Run(const LinearTile& t) { IntegerTile<kInt4, kInt16, kVectors, kRows>(t); }
  };
};
template <bool kInt4, bool kInt16, int kVectors>
struct IntegerTileTable;
template <bool kInt4>
struct IntegerTileTable<kInt4, false, 2>
    : TileTable<IntegerTiles<kInt4, false, 2>::template Tile, 0, 1, 2, 3, 4, 5> {};
template <bool kInt4>
struct IntegerTileTable<kInt4, false, 4>
    : TileTable<IntegerTiles<kInt4, false, 4>::template Tile, 0, 1, 2> {};
template <bool kInt4>
struct IntegerTileTable<kInt4, true, 2>
    : TileTable<IntegerTiles<kInt4, true, 2>::template Tile, 0, 1, 2, 3> {};
template <bool kInt4>
struct IntegerTileTable<kInt4, true, 4>
    : TileTable<IntegerTiles<kInt4, true, 4>::template Tile, 0, 1> {};

template <template <int> class Tile>
constexpr const LinearVariant::MicroKernel* Tiles6() {
  return TileTable<Tile, 0, 1, 2, 3, 4, 5>::kTiles;
}
template <template <int> class Tile>
constexpr const LinearVariant::MicroKernel* Tiles12() {
  return TileTable<Tile, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11>::kTiles;
}

template <typename Weights>
LinearVariant FmaVariant(const char* name, WeightLayout layout, int block_n, KernelVariant* log) {
  return {.name = name,
          .numerics = kFmaNumerics,
          .layout = layout,
          .activation = ActivationFormat::kFloat32,
          .block_n = block_n,
          .max_rows = block_n == 64 ? 6 : 12,
          .micro = block_n == 64 ? Tiles6<FmaTiles<Weights, 4>::template Tile>()
                                 : Tiles12<FmaTiles<Weights, 2>::template Tile>(),
          .epilogue = Finish,
          .log = log};
}

LinearVariant BFloat16Variant(const char* name, int block_n, KernelVariant* log) {
  return {
      .name = name,
      .numerics = kBFloat16Numerics,
      .layout = WeightLayout::kBFloat16Pairs,
      .activation = ActivationFormat::kBFloat16,
      .block_n = block_n,
      .max_rows = block_n == 64 ? 6 : 12,
      .micro = block_n == 64 ? Tiles6<BFloat16Tiles<4>::Tile>() : Tiles12<BFloat16Tiles<2>::Tile>(),
      .convert = ConvertRowBFloat16,
      .epilogue = Finish,
      .log = log};
}

template <bool kInt4, bool kInt16, int kVectors>
LinearVariant IntegerVariant(const char* name, KernelVariant* log) {
  // As many rows as leave registers for the weights: sums of integers (two with 16-bit activations)
  // and of floats for each.
  using Table = IntegerTileTable<kInt4, kInt16, kVectors>;
  return {.name = name,
          .numerics = kInt16 ? kInt16Numerics : kInt8Numerics,
          .layout = kInt4 ? WeightLayout::kInt4Quads : WeightLayout::kInt8Quads,
          .activation = kInt16 ? ActivationFormat::kInt16 : ActivationFormat::kInt8,
          .block_n = kVectors * 16,
          .max_rows = static_cast<int>(std::size(Table::kTiles)),
          .micro = Table::kTiles,
          .convert = QuantizeRow<kInt16>,
          .epilogue = Finish,
          .log = log};
}

KernelVariant g_f32_n64("linear.avx512_f32_n64", Isa::kAvx512);
KernelVariant g_f32_n32("linear.avx512_f32_n32", Isa::kAvx512);
KernelVariant g_f16_n64("linear.avx512_f16_n64", Isa::kAvx512);
KernelVariant g_f16_n32("linear.avx512_f16_n32", Isa::kAvx512);
KernelVariant g_bf16_n64("linear.avx512_bf16_n64", Isa::kAvx512);
KernelVariant g_bf16_n32("linear.avx512_bf16_n32", Isa::kAvx512);
KernelVariant g_bf16_fma_n64("linear.avx512_bf16_fma_n64", Isa::kAvx512);
KernelVariant g_bf16_fma_n32("linear.avx512_bf16_fma_n32", Isa::kAvx512);
KernelVariant g_w8a8_n64("linear.avx512_w8a8_n64", Isa::kAvx512);
KernelVariant g_w8a8_n32("linear.avx512_w8a8_n32", Isa::kAvx512);
KernelVariant g_w8a16_n64("linear.avx512_w8a16_n64", Isa::kAvx512);
KernelVariant g_w8a16_n32("linear.avx512_w8a16_n32", Isa::kAvx512);
KernelVariant g_w4a8_n64("linear.avx512_w4a8_n64", Isa::kAvx512);
KernelVariant g_w4a8_n32("linear.avx512_w4a8_n32", Isa::kAvx512);
KernelVariant g_w4a16_n64("linear.avx512_w4a16_n64", Isa::kAvx512);
KernelVariant g_w4a16_n32("linear.avx512_w4a16_n32", Isa::kAvx512);

}  // namespace

std::span<const LinearVariant> Avx512LinearVariants() {
  using enum WeightLayout;
  static const LinearVariant variants[] = {
      FmaVariant<Float32Weights>("avx512_f32_n64", kFloat32, 64, &g_f32_n64),
      FmaVariant<Float32Weights>("avx512_f32_n32", kFloat32, 32, &g_f32_n32),
      FmaVariant<Float16Weights>("avx512_f16_n64", kFloat16, 64, &g_f16_n64),
      FmaVariant<Float16Weights>("avx512_f16_n32", kFloat16, 32, &g_f16_n32),
      BFloat16Variant("avx512_bf16_n64", 64, &g_bf16_n64),
      BFloat16Variant("avx512_bf16_n32", 32, &g_bf16_n32),
      FmaVariant<BFloat16Weights>("avx512_bf16_fma_n64", kBFloat16Pairs, 64, &g_bf16_fma_n64),
      FmaVariant<BFloat16Weights>("avx512_bf16_fma_n32", kBFloat16Pairs, 32, &g_bf16_fma_n32),
      IntegerVariant<false, false, 2>("avx512_w8a8_n32", &g_w8a8_n32),
      IntegerVariant<false, false, 4>("avx512_w8a8_n64", &g_w8a8_n64),
      IntegerVariant<false, true, 2>("avx512_w8a16_n32", &g_w8a16_n32),
      IntegerVariant<false, true, 4>("avx512_w8a16_n64", &g_w8a16_n64),
      IntegerVariant<true, false, 2>("avx512_w4a8_n32", &g_w4a8_n32),
      IntegerVariant<true, false, 4>("avx512_w4a8_n64", &g_w4a8_n64),
      IntegerVariant<true, true, 2>("avx512_w4a16_n32", &g_w4a16_n32),
      IntegerVariant<true, true, 4>("avx512_w4a16_n64", &g_w4a16_n64),
  };
  return variants;
}

}  // namespace trireme::kernels
