// SPDX-License-Identifier: Apache-2.0
#include "quantize/float8.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "tensor/float_formats.h"

namespace trireme::quantize {
namespace {

constexpr float kLargestFloat8 = 448.0f;

std::vector<float> Floats(const TensorView& tensor) {
  std::vector<float> values(static_cast<size_t>(tensor.shape.num_elements()));
  ConvertFloats(tensor.dtype, tensor.data, DType::kFloat32,
                reinterpret_cast<std::byte*>(values.data()), tensor.shape.num_elements());
  return values;
}

}  // namespace

float Float8Scale(float largest) { return largest > 0.0f ? largest / kLargestFloat8 : 1.0f; }

StatusOr<float> LargestMagnitude(const TensorView& weight) {
  if (!IsFloat(weight.dtype)) {
    return InvalidArgument("FP8 is made of a float weight, not of {}", DTypeName(weight.dtype));
  }
  float largest = 0.0f;
  for (float value : Floats(weight)) {
    if (!std::isfinite(value)) return InvalidArgument("the weight holds an infinity or a NaN");
    largest = std::max(largest, std::fabs(value));
  }
  return largest;
}

HostTensor QuantizeFloat8(const TensorView& weight, float scale) {
  HostTensor codes(DType::kFloat8E4M3, weight.shape);
  auto* to = codes.as<uint8_t>();
  for (float value : Floats(weight)) *to++ = ToFloat8E4M3(value / scale).bits;
  return codes;
}

}  // namespace trireme::quantize
