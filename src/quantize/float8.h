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

// max|x| of a float tensor or of some rows of one. Infinities and NaNs are refused.
StatusOr<float> LargestMagnitude(const TensorView& weight);

// Codes of a float tensor, or of some rows, with the scale of the whole.
HostTensor QuantizeFloat8(const TensorView& weight, float scale);

}  // namespace trireme::quantize
