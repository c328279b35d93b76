// SPDX-License-Identifier: Apache-2.0
// Portable micro-kernels of the linear layers: one row at a time, any layout. The integer ones agree
// bit for bit with the vector ones; the float ones multiply and add apart, being made for
// processors without FMA. Thread-safe.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/linear_epilogue.h"
#include "kernels/linear_variant.h"
#include "tensor/float_formats.h"

namespace trireme::kernels {
namespace {

// The vector type of vector_math.h with one lane.
struct Scalar {
  using F = float;
  static constexpr int kWidth = 1;
  static float Set(float x) { return x; }
  static float Add(float a, float b) { return a + b; }
  static float Sub(float a, float b) { return a - b; }
  static float Mul(float a, float b) { return a * b; }
  static float Div(float a, float b) { return a / b; }
  static float Fmadd(float a, float b, float c) { return std::fma(a, b, c); }
  static float Fnmadd(float a, float b, float c) { return std::fma(-a, b, c); }
  static float Max(float a, float b) { return a > b ? a : b; }
  static float Min(float a, float b) { return a < b ? a : b; }
  static float Abs(float a) { return std::fabs(a); }
  static float Round(float a) { return std::nearbyint(a); }
  static float ScaleByPowerOfTwo(float a, float n) {
    return std::isnan(n) ? n : std::ldexp(a, static_cast<int>(n));
  }
  static float SelectNegative(float x, float negative, float other) {
    return std::signbit(x) ? negative : other;
  }
  static float Load(const float* p) { return *p; }
  static float LoadFirst(const float* p, int) { return *p; }
  static void StoreFirst(float* p, float a, int) { *p = a; }
};

// Elements as packed: `kUnit` inputs of one output lie together.
struct Float32Weights {
  static constexpr int kUnit = 1;
  static float At(const std::byte* w, int64_t i) { return reinterpret_cast<const float*>(w)[i]; }
};
struct Float16Weights {
  static constexpr int kUnit = 1;
  static float At(const std::byte* w, int64_t i) {
    return ToFloat(reinterpret_cast<const float16_t*>(w)[i]);
  }
};
struct BFloat16Weights {
  static constexpr int kUnit = 2;
  static float At(const std::byte* w, int64_t i) {
    return ToFloat(reinterpret_cast<const bfloat16_t*>(w)[i]);
  }
};

template <typename Weights, int kBlockN>
void FloatTile(const LinearTile& t) {
  const float* x = reinterpret_cast<const float*>(t.x.values);
  for (int64_t k = t.k_begin; k < t.k_end; ++k) {
    const int64_t unit = k / Weights::kUnit * Weights::kUnit;
    for (int64_t n = 0; n < kBlockN; ++n) {
      const int64_t index = unit * kBlockN + n * Weights::kUnit + (k - unit);
      t.accumulators[n] += x[k] * Weights::At(t.block, index);
    }
  }
}

// Sum over one activation group of (w + z) q, less z sum(q): exact.
template <bool kInt4, bool kInt16, int kBlockN>
int32_t GroupSum(const uint8_t* w, const int8_t* q, int32_t offset, int64_t n) {
  int32_t sum = 0;
  for (int k = 0; k < kActivationGroup; ++k) {
    int32_t weight;
    if (kInt4) {
      const uint8_t byte = w[k / 8 * (kBlockN * 4) + n * 4 + k % 4];
      weight = k % 8 < 4 ? byte & 0xf : byte >> 4;
    } else {
      weight = w[k / 4 * (kBlockN * 4) + n * 4 + k % 4];
    }
    const int32_t value = kInt16 ? 128 * q[k] + q[k + kActivationGroup] : q[k];
    sum += weight * value;
  }
  return sum + offset;
}

template <bool kInt4, bool kInt16, int kBlockN>
void IntegerTile(const LinearTile& t) {
  constexpr int64_t kValueBytes = kInt4 ? kBlockN / 2 : kBlockN;  // of one input, all outputs
  const int8_t* q = reinterpret_cast<const int8_t*>(t.x.values);
  for (int64_t begin = t.k_begin; begin < t.k_end;) {
    const int64_t weight_group = begin / t.weight_group;
    const int64_t end = std::min(t.k_end, (weight_group + 1) * t.weight_group);
    const std::byte* group = t.block + weight_group * (kBlockN * 4 + t.weight_group * kValueBytes);
    const float* scales = reinterpret_cast<const float*>(group);
    const uint8_t* w = reinterpret_cast<const uint8_t*>(group + kBlockN * 4);
    w -= weight_group * t.weight_group * kValueBytes;
    for (int64_t n = 0; n < kBlockN; ++n) {
      float sum = t.one_group ? t.accumulators[n] : 0.0f;
      for (int64_t k = begin; k < end; k += kActivationGroup) {
        const int64_t g = k / kActivationGroup;
        const int32_t dot = GroupSum<kInt4, kInt16, kBlockN>(
            w + k * kValueBytes, q + k * (kInt16 ? 2 : 1), t.x.offsets[g], n);
        sum = std::fma(static_cast<float>(dot), t.x.scales[g], sum);
      }
      t.accumulators[n] = t.one_group ? sum : std::fma(sum, scales[n], t.accumulators[n]);
    }
    begin = end;
  }
}

void Finish(const LinearEpilogue& e) { FinishTile<Scalar>(e); }

// The scale of one group and its inverse. A group that holds infinity or NaN gets a NaN scale, so
// that the outputs it reaches are NaN; one of next to nothing counts as zero.
struct GroupScale {
  float scale = 0;
  float inverse = 0;
};

GroupScale ScaleOf(const float* x, int64_t count, float levels) {
  uint32_t bits = 0;
  for (int64_t i = 0; i < count; ++i) {
    bits = std::max(bits, std::bit_cast<uint32_t>(x[i]) & 0x7fffffffu);
  }
  const float largest = std::bit_cast<float>(bits);
  if (bits >= 0x7f800000u) return {std::numeric_limits<float>::quiet_NaN(), 0.0f};
  if (largest < kSmallestQuantized) return {};
  return {largest / levels, levels / largest};
}

int32_t RoundToInt(float x) {
  constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23: rounds to nearest even
  return std::bit_cast<int32_t>(x + kMagic) - std::bit_cast<int32_t>(kMagic);
}

}  // namespace

void QuantizeRowInt8(const LinearQuantizeRow& row) {
  int8_t* out = reinterpret_cast<int8_t*>(row.values);
  int64_t group = 0;
  for (int64_t k = 0; k < row.in_features; k += kActivationGroup, ++group) {
    const int64_t count = std::min(kActivationGroup, row.in_features - k);
    const GroupScale scale = ScaleOf(row.x + k, count, 127.0f);
    int32_t sum = 0;
    for (int64_t i = 0; i < kActivationGroup; ++i) {
      const bool live = i < count && scale.inverse != 0.0f;
      const int32_t q = live ? RoundToInt(row.x[k + i] * scale.inverse) : 0;
      out[k + i] = static_cast<int8_t>(q);
      sum += q;
    }
    row.scales[group] = scale.scale;
    row.offsets[group] = -row.zero_point * sum;
  }
}

void QuantizeRowInt16(const LinearQuantizeRow& row) {
  int8_t* out = reinterpret_cast<int8_t*>(row.values);
  int64_t group = 0;
  for (int64_t k = 0; k < row.in_features; k += kActivationGroup, ++group) {
    const int64_t count = std::min(kActivationGroup, row.in_features - k);
    const GroupScale scale = ScaleOf(row.x + k, count, 16256.0f);
    int8_t* high = out + 2 * k;
    int8_t* low = high + kActivationGroup;
    int32_t sum = 0;
    for (int64_t i = 0; i < kActivationGroup; ++i) {
      const bool live = i < count && scale.inverse != 0.0f;
      const int32_t q = live ? RoundToInt(row.x[k + i] * scale.inverse) : 0;
      high[i] = static_cast<int8_t>((q + 64) >> 7);
      low[i] = static_cast<int8_t>(q - 128 * high[i]);
      sum += q;
    }
    row.scales[group] = scale.scale;
    row.offsets[group] = -row.zero_point * sum;
  }
}

namespace {

template <typename Weights, int kBlockN>
constexpr LinearVariant::MicroKernel kFloatTiles[] = {&FloatTile<Weights, kBlockN>};
template <bool kInt4, bool kInt16, int kBlockN>
constexpr LinearVariant::MicroKernel kIntegerTiles[] = {&IntegerTile<kInt4, kInt16, kBlockN>};

template <typename Weights, int kBlockN>
LinearVariant FloatVariant(const char* name, WeightLayout layout, KernelVariant* log) {
  return {.name = name,
          .numerics = "float32_multiply_add",
          .layout = layout,
          .activation = ActivationFormat::kFloat32,
          .block_n = kBlockN,
          .max_rows = 1,
          .micro = kFloatTiles<Weights, kBlockN>,
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
          .max_rows = 1,
          .micro = kIntegerTiles<kInt4, kInt16, kBlockN>,
          .convert = kInt16 ? QuantizeRowInt16 : QuantizeRowInt8,
          .epilogue = Finish,
          .log = log};
}

KernelVariant g_f32_n64("linear.generic_f32_n64", Isa::kGeneric);
KernelVariant g_f32_n32("linear.generic_f32_n32", Isa::kGeneric);
KernelVariant g_f16_n64("linear.generic_f16_n64", Isa::kGeneric);
KernelVariant g_f16_n32("linear.generic_f16_n32", Isa::kGeneric);
KernelVariant g_bf16_n64("linear.generic_bf16_n64", Isa::kGeneric);
KernelVariant g_bf16_n32("linear.generic_bf16_n32", Isa::kGeneric);
KernelVariant g_w8a8_n64("linear.generic_w8a8_n64", Isa::kGeneric);
KernelVariant g_w8a8_n32("linear.generic_w8a8_n32", Isa::kGeneric);
KernelVariant g_w8a16_n64("linear.generic_w8a16_n64", Isa::kGeneric);
KernelVariant g_w8a16_n32("linear.generic_w8a16_n32", Isa::kGeneric);
KernelVariant g_w4a8_n64("linear.generic_w4a8_n64", Isa::kGeneric);
KernelVariant g_w4a8_n32("linear.generic_w4a8_n32", Isa::kGeneric);
KernelVariant g_w4a16_n64("linear.generic_w4a16_n64", Isa::kGeneric);
KernelVariant g_w4a16_n32("linear.generic_w4a16_n32", Isa::kGeneric);

}  // namespace

std::span<const LinearVariant> GenericLinearVariants() {
  using enum WeightLayout;
  static const LinearVariant variants[] = {
      FloatVariant<Float32Weights, 64>("generic_f32_n64", kFloat32, &g_f32_n64),
      FloatVariant<Float32Weights, 32>("generic_f32_n32", kFloat32, &g_f32_n32),
      FloatVariant<Float16Weights, 64>("generic_f16_n64", kFloat16, &g_f16_n64),
      FloatVariant<Float16Weights, 32>("generic_f16_n32", kFloat16, &g_f16_n32),
      FloatVariant<BFloat16Weights, 64>("generic_bf16_n64", kBFloat16Pairs, &g_bf16_n64),
      FloatVariant<BFloat16Weights, 32>("generic_bf16_n32", kBFloat16Pairs, &g_bf16_n32),
      IntegerVariant<false, false, 64>("generic_w8a8_n64", &g_w8a8_n64),
      IntegerVariant<false, false, 32>("generic_w8a8_n32", &g_w8a8_n32),
      IntegerVariant<false, true, 64>("generic_w8a16_n64", &g_w8a16_n64),
      IntegerVariant<false, true, 32>("generic_w8a16_n32", &g_w8a16_n32),
      IntegerVariant<true, false, 64>("generic_w4a8_n64", &g_w4a8_n64),
      IntegerVariant<true, false, 32>("generic_w4a8_n32", &g_w4a8_n32),
      IntegerVariant<true, true, 64>("generic_w4a16_n64", &g_w4a16_n64),
      IntegerVariant<true, true, 32>("generic_w4a16_n32", &g_w4a16_n32),
  };
  return variants;
}

}  // namespace trireme::kernels
