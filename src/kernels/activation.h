// SPDX-License-Identifier: Apache-2.0
// Activations, plain or gated: y = act(x), or y = act(x) * up. Engine thread only.
//
// | operand | dtype   | shape                      | notes                                           |
// |---------|---------|----------------------------|-------------------------------------------------|
// | x       | float32 | [num_tokens, size]         | row stride x_stride                             |
// | up      | float32 | [num_tokens, size] or null | a second tensor, or the other half of x's rows  |
// | y       | float32 | [num_tokens, size]         | may be x or up itself                           |
//
// Elementwise in float32. Bound by memory.
#pragma once

#include <cstdint>

#include "kernels/cpu_context.h"

namespace trireme::kernels {

enum class Activation {
  kSilu,      // x * sigmoid(x)
  kGelu,      // x / 2 * (1 + erf(x / sqrt(2)))
  kGeluTanh,  // x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))
  kRelu,      // max(x, 0)
};

struct ActivationParams {
  Activation activation = Activation::kSilu;
  const float* x = nullptr;
  int64_t x_stride = 0;
  const float* up = nullptr;
  int64_t up_stride = 0;
  float* y = nullptr;
  int64_t y_stride = 0;
  int64_t num_tokens = 0;
  int64_t size = 0;
};

void Activate(const ActivationParams& params, CpuContext& context);
void ActivateReference(const ActivationParams& params);

}  // namespace trireme::kernels
