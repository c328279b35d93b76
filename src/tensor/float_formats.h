// SPDX-License-Identifier: Apache-2.0
// Conversions between float and its 16- and 8-bit formats, round to nearest even. Pure functions,
// portable C++ (the meaning that ISA-specific kernels must match bit for bit).
#pragma once

#include <bit>
#include <cstdint>

namespace trireme {

struct bfloat16_t {
  uint16_t bits;
};
struct float16_t {
  uint16_t bits;
};
struct float8_e4m3_t {
  uint8_t bits;
};

inline float ToFloat(float x) { return x; }

inline float ToFloat(bfloat16_t x) { return std::bit_cast<float>(uint32_t{x.bits} << 16); }

inline bfloat16_t ToBFloat16(float x) {
  const uint32_t u = std::bit_cast<uint32_t>(x);
  if ((u & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>((u >> 16) | 0x0040u)};  // NaN
  return {static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16)};
}

inline float ToFloat(float16_t x) {
  const uint32_t sign = uint32_t{x.bits & 0x8000u} << 16;
  const uint32_t exponent = (x.bits >> 10) & 0x1fu;
  const uint32_t mantissa = x.bits & 0x3ffu;
  if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  if (exponent != 0)
    return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
  // Subnormal or zero: mantissa * 2^-24, exact in float.
  const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
}

inline float16_t ToFloat16(float x) {
  const uint32_t u = std::bit_cast<uint32_t>(x);
  const uint16_t sign = static_cast<uint16_t>((u >> 16) & 0x8000u);
  const uint32_t magnitude = u & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return {static_cast<uint16_t>(sign | 0x7e00u)};   // NaN
  if (magnitude >= 0x477ff000u) return {static_cast<uint16_t>(sign | 0x7c00u)};  // rounds to inf
  if (magnitude >= 0x38800000u) {                                                // normal
    const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
    return {static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13))};
  }
  // Subnormal: adding 0.5 leaves the result in the low mantissa bits, rounded by the FPU.
  const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
  return {static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3f000000u))};
}

// E4M3 ("fn"): bias 7, largest finite 448, no infinity, NaN is S.1111.111.
inline float ToFloat(float8_e4m3_t x) {
  const uint32_t exponent = (x.bits >> 3) & 0xfu;
  const uint32_t mantissa = x.bits & 7u;
  const float sign = (x.bits & 0x80u) ? -1.0f : 1.0f;
  if (exponent == 0xf && mantissa == 7) return std::bit_cast<float>(0x7fc00000u);
  if (exponent == 0) return sign * static_cast<float>(mantissa) * 0x1p-9f;
  return sign * std::bit_cast<float>(((exponent + 120) << 23) | (mantissa << 20));
}

// Saturates to +-448, as NVIDIA's satfinite conversions do.
inline float8_e4m3_t ToFloat8E4M3(float x) {
  const uint32_t u = std::bit_cast<uint32_t>(x);
  const uint8_t sign = static_cast<uint8_t>((u >> 24) & 0x80u);
  const uint32_t magnitude = u & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return {static_cast<uint8_t>(sign | 0x7fu)};
  if (magnitude >= 0x43e00000u) return {static_cast<uint8_t>(sign | 0x7eu)};  // >= 448
  if (magnitude >= 0x3c800000u) {                                             // >= 2^-6: normal
    const uint32_t rounded = magnitude + 0x7ffffu + ((magnitude >> 20) & 1u);
    const uint32_t bits = (rounded - (120u << 23)) >> 20;
    return {static_cast<uint8_t>(sign | (bits > 0x7eu ? 0x7eu : bits))};
  }
  // Subnormal: units of 2^-9; adding 2^14 makes the FPU round there.
  const float shifted = std::bit_cast<float>(magnitude) + 0x1p14f;
  return {static_cast<uint8_t>(sign | (std::bit_cast<uint32_t>(shifted) & 0xfu))};
}

}  // namespace trireme
