// SPDX-License-Identifier: Apache-2.0
#include "quantize/float8.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "tensor/float_formats.h"

namespace trireme::quantize {
namespace {

constexpr float kLargestFloat8 = 448.0f;

}  // namespace

float Float8Scale(float largest) { return largest > 0.0f ? largest / kLargestFloat8 : 1.0f; }

StatusOr<Float8Weight> QuantizeFloat8(const TensorView& weight) {
  if (!IsFloat(weight.dtype)) {
    return InvalidArgument("FP8 is made of a float weight, not of {}", DTypeName(weight.dtype));
  }
  const int64_t count = weight.shape.num_elements();
  std::vector<float> values(static_cast<size_t>(count));
  ConvertFloats(weight.dtype, weight.data, DType::kFloat32,
                reinterpret_cast<std::byte*>(values.data()), count);
  float largest = 0.0f;
  for (float value : values) {
    if (!std::isfinite(value)) return InvalidArgument("the weight holds an infinity or a NaN");
    largest = std::max(largest, std::fabs(value));
  }
  Float8Weight result;
  result.scale = Float8Scale(largest);
  result.values = HostTensor(DType::kFloat8E4M3, weight.shape);
  auto* codes = result.values.as<uint8_t>();
  for (int64_t i = 0; i < count; ++i) codes[i] = ToFloat8E4M3(values[i] / result.scale).bits;
  return result;
}

}  // namespace trireme::quantize
