// SPDX-License-Identifier: Apache-2.0
// FP8 (e4m3) with one scale a tensor. Pure functions.
//
//   scale = max|x| / 448 (1 when all are 0);  q = e4m3(x / scale);  x ~ q * scale
#pragma once

#include "base/status.h"
#include "tensor/tensor_view.h"

namespace trireme::quantize {

// The scale that carries values up to `largest` onto the whole range of e4m3.
float Float8Scale(float largest);

struct Float8Weight {
  HostTensor values;  // e4m3, of the weight's shape
  float scale = 1.0f;
};

// `weight`: a float dtype. Infinities and NaNs are refused.
StatusOr<Float8Weight> QuantizeFloat8(const TensorView& weight);

}  // namespace trireme::quantize
