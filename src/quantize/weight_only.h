// SPDX-License-Identifier: Apache-2.0
// Weight-only quantization: symmetric integers with one scale per output channel or per group of
// input channels. Pure functions.
//
//   scale = max|W[o, group]| / 2^(bits - 1);  q = round(W / scale) clamped to [-2^(bits-1), 2^(bits-1) - 1]
//
// The scale is rounded to its dtype before it divides. An all-zero group has scale 0 and q = 0.
// Rounding is to nearest, ties to even. Infinities and NaNs are refused: their row would be lost.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "tensor/quant_spec.h"
#include "tensor/tensor_view.h"

namespace trireme::quantize {

struct QuantizedWeight {
  HostTensor values;  // int8 [out, in], or int8 bytes [out, in / 2] with two int4 each, low first
  HostTensor scales;  // [out], or [out, in / group_size], of the asked dtype
};

// `weight`: float [out, in]. Int4 needs an even `in`; a group size must divide into multiples of 2
// and may leave a shorter last group.
StatusOr<QuantizedWeight> QuantizeWeightOnly(const TensorView& weight, const WeightQuant& quant,
                                             DType scale_dtype);

// The float32 weight that the quantized one stands for, row-major [out, in].
StatusOr<std::vector<float>> Dequantize(const TensorView& values, const TensorView& scales,
                                        const WeightQuant& quant, int64_t in_features);

}  // namespace trireme::quantize
