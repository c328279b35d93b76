// SPDX-License-Identifier: Apache-2.0
// RMS norm, optionally after a residual add. Engine thread only.
//
//   h = x + residual                                    (h = x without a residual)
//   y = h * 1 / sqrt(mean(h^2) + epsilon) * weight      weight = gamma, or 1 + gamma
//
// | operand  | dtype   | shape                          | notes                                      |
// |----------|---------|--------------------------------|--------------------------------------------|
// | x        | float32 | [num_tokens, num_heads, size]  | strides x_stride, x_head_stride            |
// | residual | float32 | [num_tokens, size] or null     | num_heads = 1 only                         |
// | h        | float32 | as residual, or null           | may alias x or residual                    |
// | gamma    | float32 | [size]                         | shared by all heads                        |
// | y        | float32 | as x                           | may alias x (not h)                        |
//
// A whole row is one head (num_heads = 1), or each head of a row is normed by itself (q and k norm).
// Accumulation: float32, in an order that depends on `size` alone, so a row's result never depends
// on the rows around it. Bound by memory.
#pragma once

#include <cstdint>

#include "kernels/cpu_context.h"

namespace trireme::kernels {

struct RmsNormParams {
  const float* x = nullptr;
  int64_t x_stride = 0;
  int64_t x_head_stride = 0;
  const float* residual = nullptr;
  int64_t residual_stride = 0;
  float* h = nullptr;
  int64_t h_stride = 0;
  const float* gamma = nullptr;
  bool gamma_plus_one = false;
  float epsilon = 1e-5f;
  float* y = nullptr;
  int64_t y_stride = 0;
  int64_t y_head_stride = 0;
  int64_t num_tokens = 0;
  int64_t num_heads = 1;
  int64_t size = 0;
};

void RmsNorm(const RmsNormParams& params, CpuContext& context);
void RmsNormReference(const RmsNormParams& params);

}  // namespace trireme::kernels
