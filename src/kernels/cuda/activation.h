// SPDX-License-Identifier: Apache-2.0
// Activations, plain or gated: y = act(x), or y = act(x) * up.
//
// | operand | dtype   | shape                      | notes                                          |
// |---------|---------|----------------------------|------------------------------------------------|
// | x       | T       | [max_tokens, size]         | row stride x_stride                            |
// | up      | T       | [max_tokens, size] or null | a second tensor, or the other half of x's rows |
// | y       | T, e4m3 | [max_tokens, size]         | T: may be x or up itself; e4m3 holds y / y_scale |
//
// T: bfloat16 or float16. Only the first *num_tokens rows are read or written. Pointers 16-byte
// aligned, size and strides multiples of 8. Elementwise in float32, rounded once. Deterministic.
// Bound by bandwidth. sm_80 up.
#pragma once

#include "device/cuda/launch.h"
#include "kernels/cuda/types.h"

namespace trireme::cuda {

enum class Activation : uint8_t {
  kSilu,      // x * sigmoid(x)
  kGelu,      // x / 2 * (1 + erf(x / sqrt(2)))
  kGeluTanh,  // x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))
  kRelu,      // max(x, 0)
};

struct ActivationParams {
  Element dtype = Element::kBFloat16;
  Activation activation = Activation::kSilu;
  const void* x = nullptr;
  int64_t x_stride = 0;
  const void* up = nullptr;
  int64_t up_stride = 0;
  Element y_dtype = Element::kBFloat16;
  void* y = nullptr;
  int64_t y_stride = 0;
  float y_scale = 1.0f;  // of an e4m3 output
  int size = 0;
  int max_tokens = 0;
  const int32_t* num_tokens = nullptr;  // device
};

// cudaErrorInvalidValue for operands outside the table above.
cudaError_t Activate(const ActivationParams& params, LaunchContext& context);

}  // namespace trireme::cuda
