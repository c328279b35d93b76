// SPDX-License-Identifier: Apache-2.0
// For tests of row kernels: random rows in 16-bit floats, and comparison after rounding. Host code.
#pragma once

#include <cuda_fp8.h>

#include <cmath>
#include <string>
#include <vector>

#include "kernels/cuda/testing.h"
#include "kernels/cuda/types.h"
#include "kernels/kernels_testing.h"
#include "tensor/float_formats.h"

namespace trireme::cuda {

template <typename T>
struct HalfTraits;
template <>
struct HalfTraits<__nv_bfloat16> {
  static constexpr Element kElement = Element::kBFloat16;
  static constexpr float kRounding = 0x1p-8f;  // half a unit in the last place, relative
  static __nv_bfloat16 Round(float x) { return __float2bfloat16_rn(x); }
  static float Float(__nv_bfloat16 x) { return __bfloat162float(x); }
};
template <>
struct HalfTraits<__half> {
  static constexpr Element kElement = Element::kFloat16;
  static constexpr float kRounding = 0x1p-11f;
  static __half Round(float x) { return __float2half_rn(x); }
  static float Float(__half x) { return __half2float(x); }
};

template <typename T>
std::vector<T> RoundAll(const std::vector<float>& values) {
  std::vector<T> rounded;
  rounded.reserve(values.size());
  for (float value : values) rounded.push_back(HalfTraits<T>::Round(value));
  return rounded;
}

template <typename T>
std::vector<float> Floats(const std::vector<T>& values) {
  std::vector<float> floats;
  floats.reserve(values.size());
  for (T value : values) floats.push_back(HalfTraits<T>::Float(value));
  return floats;
}

inline std::vector<float> Floats(const std::vector<__nv_fp8_e4m3>& values) {
  std::vector<float> floats;
  floats.reserve(values.size());
  for (__nv_fp8_e4m3 value : values) {
    floats.push_back(trireme::ToFloat(float8_e4m3_t{static_cast<uint8_t>(value.__x)}));
  }
  return floats;
}

// The first rows of `want` within the rounding of T and `relative`; rows beyond still poisoned.
template <typename T>
void ExpectRows(const std::vector<T>& got, const std::vector<float>& want, int num_rows, int size,
                float relative, const std::string& what) {
  const std::vector<float> all = Floats(got);
  const size_t written = static_cast<size_t>(num_rows) * static_cast<size_t>(size);
  kernels::ExpectNear(std::vector<float>(all.begin(), all.begin() + static_cast<long>(written)),
                      std::vector<float>(want.begin(), want.begin() + static_cast<long>(written)),
                      HalfTraits<T>::kRounding + relative, 1e-6f, what);
  for (size_t i = written; i < all.size(); ++i) {
    ASSERT_TRUE(std::isnan(all[i])) << what << ": element " << i << " beyond the count was written";
  }
}

// e4m3 codes of want / scale; one code apart where float32 rounding may decide.
inline void ExpectFloat8Rows(const std::vector<__nv_fp8_e4m3>& got, const std::vector<float>& want,
                             float scale, int num_rows, int size, const std::string& what) {
  const size_t written = static_cast<size_t>(num_rows) * static_cast<size_t>(size);
  for (size_t i = 0; i < got.size(); ++i) {
    const int code = got[i].__x;
    if (i >= written) {
      ASSERT_EQ(code, 0xff) << what << ": element " << i << " beyond the count was written";
      continue;
    }
    const float low = trireme::ToFloat(ToFloat8E4M3(want[i] / scale * (1 - 1e-5f)));
    const float high = trireme::ToFloat(ToFloat8E4M3(want[i] / scale * (1 + 1e-5f)));
    const float value = trireme::ToFloat(float8_e4m3_t{static_cast<uint8_t>(code)});
    ASSERT_TRUE(value == low || value == high)
        << what << " element " << i << ": got " << value << ", want " << want[i] / scale;
  }
}

}  // namespace trireme::cuda
