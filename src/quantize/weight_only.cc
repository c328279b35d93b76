// SPDX-License-Identifier: Apache-2.0
#include "quantize/weight_only.h"

#include <algorithm>
#include <cmath>

#include "tensor/float_formats.h"

namespace trireme::quantize {
namespace {

int64_t GroupSize(const WeightQuant& quant, int64_t in) {
  return quant.group_size == 0 ? in : quant.group_size;
}

Status CheckWeight(const TensorView& weight, const WeightQuant& quant) {
  if (weight.shape.rank() != 2 || !IsFloat(weight.dtype)) {
    return InvalidArgument("weight-only quantization takes a float [out, in] weight, not {} {}",
                           DTypeName(weight.dtype), weight.shape.ToString());
  }
  if (quant.kind != WeightQuant::Kind::kInt8 && quant.kind != WeightQuant::Kind::kInt4) {
    return InvalidArgument("weight-only quantization makes int8 or int4");
  }
  if (quant.group_size < 0 || quant.group_size % 2 != 0) {
    return InvalidArgument("group size {} is not a positive even number", quant.group_size);
  }
  if (quant.kind == WeightQuant::Kind::kInt4 && weight.shape[1] % 2 != 0) {
    return InvalidArgument("int4 needs an even number of input features, not {}", weight.shape[1]);
  }
  return OkStatus();
}

float RoundTo(DType dtype, float value) {
  if (dtype == DType::kBFloat16) return ToFloat(ToBFloat16(value));
  if (dtype == DType::kFloat16) return ToFloat(ToFloat16(value));
  return value;
}

// Nearest integer, ties to even, of |x| < 2^22: adding 1.5 * 2^23 leaves the FPU no fraction bits.
float RoundSmall(float x) { return (x + 0x1.8p23f) - 0x1.8p23f; }

// Quantizes one group of a row and returns its scale. Dividing by the scale as it will be stored
// keeps the error of a value at half a step of what the reader multiplies with.
float QuantizeGroup(std::span<const float> values, int levels, DType scale_dtype,
                    std::span<int8_t> out) {
  float largest = 0;
  for (float value : values) largest = std::max(largest, std::fabs(value));
  const float scale = RoundTo(scale_dtype, largest / static_cast<float>(levels));
  if (!(scale > 0)) {
    std::fill(out.begin(), out.end(), int8_t{0});
    return 0;
  }
  const float low = static_cast<float>(-levels);
  const float high = static_cast<float>(levels - 1);
  for (size_t i = 0; i < values.size(); ++i) {
    const float scaled = std::min(std::max(values[i] / scale, low), high);
    out[i] = static_cast<int8_t>(static_cast<int>(RoundSmall(scaled)));
  }
  return scale;
}

bool AllFinite(std::span<const float> values) {
  return std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); });
}

}  // namespace

StatusOr<QuantizedWeight> QuantizeWeightOnly(const TensorView& weight, const WeightQuant& quant,
                                             DType scale_dtype) {
  TRIREME_RETURN_IF_ERROR(CheckWeight(weight, quant));
  if (scale_dtype != DType::kFloat32 && scale_dtype != DType::kFloat16 &&
      scale_dtype != DType::kBFloat16) {
    return InvalidArgument("scales cannot be {}", DTypeName(scale_dtype));
  }
  const int64_t out = weight.shape[0];
  const int64_t in = weight.shape[1];
  const int64_t group = GroupSize(quant, in);
  const int64_t groups = (in + group - 1) / group;
  const bool int4 = quant.kind == WeightQuant::Kind::kInt4;
  const int levels = int4 ? 8 : 128;

  QuantizedWeight result;
  result.values = HostTensor(DType::kInt8, {out, int4 ? in / 2 : in});
  result.scales = HostTensor(scale_dtype, quant.group_size == 0 ? Shape{out} : Shape{out, groups});
  std::vector<float> row(static_cast<size_t>(in));
  std::vector<int8_t> integers(static_cast<size_t>(in));
  std::vector<float> scales(static_cast<size_t>(groups));
  const int64_t row_bytes = DTypeBytes(weight.dtype, in);
  for (int64_t o = 0; o < out; ++o) {
    ConvertFloats(weight.dtype, weight.data + o * row_bytes, DType::kFloat32,
                  reinterpret_cast<std::byte*>(row.data()), in);
    if (!AllFinite(row)) return InvalidArgument("row {} holds an infinity or a NaN", o);
    for (int64_t g = 0; g < groups; ++g) {
      const size_t begin = static_cast<size_t>(g * group);
      const size_t count = static_cast<size_t>(std::min(group, in - g * group));
      scales[g] = QuantizeGroup(std::span(row).subspan(begin, count), levels, scale_dtype,
                                std::span(integers).subspan(begin, count));
    }
    ConvertFloats(DType::kFloat32, reinterpret_cast<const std::byte*>(scales.data()), scale_dtype,
                  result.scales.bytes().data() + DTypeBytes(scale_dtype, o * groups), groups);
    int8_t* to = result.values.as<int8_t>() + o * (int4 ? in / 2 : in);
    if (!int4) {
      std::copy(integers.begin(), integers.end(), to);
      continue;
    }
    for (int64_t i = 0; i < in / 2; ++i) {
      to[i] = static_cast<int8_t>((integers[2 * i] & 0xf) | ((integers[2 * i + 1] & 0xf) << 4));
    }
  }
  return result;
}

StatusOr<std::vector<float>> Dequantize(const TensorView& values, const TensorView& scales,
                                        const WeightQuant& quant, int64_t in_features) {
  const bool is_bytes = values.dtype == DType::kInt8 || values.dtype == DType::kUInt8;
  if (values.shape.rank() != 2 || !is_bytes || !IsFloat(scales.dtype) || in_features < 1 ||
      quant.group_size < 0) {
    return InvalidArgument("values of {} {} with scales of {} are no quantized weight",
                           DTypeName(values.dtype), values.shape.ToString(),
                           DTypeName(scales.dtype));
  }
  const int64_t out = values.shape[0];
  const int64_t group = GroupSize(quant, in_features);
  const int64_t groups = (in_features + group - 1) / group;
  const bool int4 = quant.kind == WeightQuant::Kind::kInt4;
  if (values.shape.num_elements() != out * (int4 ? in_features / 2 : in_features) ||
      scales.shape.num_elements() != out * groups) {
    return InvalidArgument("quantized values {} and scales {} do not fit {} input features",
                           values.shape.ToString(), scales.shape.ToString(), in_features);
  }
  std::vector<float> weight(static_cast<size_t>(out * in_features));
  const int8_t* q = values.as<int8_t>();
  for (int64_t o = 0; o < out; ++o) {
    for (int64_t i = 0; i < in_features; ++i) {
      const int64_t at = o * in_features + i;
      int value = 0;
      if (int4) {
        const int nibble = (static_cast<uint8_t>(q[at / 2]) >> (at % 2 * 4)) & 0xf;
        value = nibble >= 8 ? nibble - 16 : nibble;
      } else {
        value = q[at];
      }
      weight[at] = static_cast<float>(value) * LoadAsFloat(scales, o * groups + i / group);
    }
  }
  return weight;
}

}  // namespace trireme::quantize
