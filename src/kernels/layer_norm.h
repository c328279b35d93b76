// SPDX-License-Identifier: Apache-2.0
// Layer norm, optionally after a residual add. Engine thread only.
//
//   h = x + residual                                               (h = x without a residual)
//   y = (h - mean(h)) * 1 / sqrt(mean((h - mean(h))^2) + epsilon) * gamma + beta
//
// | operand  | dtype   | shape                      | notes                     |
// |----------|---------|----------------------------|---------------------------|
// | x        | float32 | [num_tokens, size]         | row stride x_stride       |
// | residual | float32 | [num_tokens, size] or null |                           |
// | h        | float32 | as residual, or null       | may alias x or residual   |
// | gamma    | float32 | [size] or null             | null: ones                |
// | beta     | float32 | [size] or null             | null: zeros               |
// | y        | float32 | [num_tokens, size]         | may alias x (not h)       |
//
// Accumulation: float32, in an order that depends on `size` alone. Bound by memory.
#pragma once

#include <cstdint>

#include "kernels/cpu_context.h"

namespace trireme::kernels {

struct LayerNormParams {
  const float* x = nullptr;
  int64_t x_stride = 0;
  const float* residual = nullptr;
  int64_t residual_stride = 0;
  float* h = nullptr;
  int64_t h_stride = 0;
  const float* gamma = nullptr;
  const float* beta = nullptr;
  float epsilon = 1e-5f;
  float* y = nullptr;
  int64_t y_stride = 0;
  int64_t num_tokens = 0;
  int64_t size = 0;
};

void LayerNorm(const LayerNormParams& params, CpuContext& context);
void LayerNormReference(const LayerNormParams& params);

}  // namespace trireme::kernels
