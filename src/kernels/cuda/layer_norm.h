// SPDX-License-Identifier: Apache-2.0
// Layer norm, optionally after a residual add.
//
//   h = T(x + residual)                                            (h = x without a residual)
//   y = (h - mean(h)) * 1 / sqrt(mean((h - mean(h))^2) + epsilon) * gamma + beta
//
// | operand  | dtype      | shape                      | notes                                         |
// |----------|------------|----------------------------|-----------------------------------------------|
// | x        | T          | [max_tokens, size]         | row stride x_stride                           |
// | residual | T          | [max_tokens, size] or null |                                               |
// | h        | T          | as residual, or null       | may alias x or residual                       |
// | gamma    | T, float32 | [size] or null             | null: ones                                    |
// | beta     | as gamma   | [size] or null             | null: zeros                                   |
// | y        | T, e4m3    | [max_tokens, size]         | may alias x (T), not h; e4m3 holds y / y_scale |
//
// T: bfloat16 or float16. Only the first *num_tokens rows are read or written. Pointers 16-byte
// aligned, size and strides multiples of 8, size <= 16384. Accumulation: float32, in an order that
// depends on `size` alone. y is rounded once, from float32. Deterministic. Bound by bandwidth. sm_80
// up.
#pragma once

#include "device/cuda/launch.h"
#include "kernels/cuda/types.h"

namespace trireme::cuda {

struct LayerNormParams {
  Element dtype = Element::kBFloat16;
  const void* x = nullptr;
  int64_t x_stride = 0;
  const void* residual = nullptr;
  int64_t residual_stride = 0;
  void* h = nullptr;
  int64_t h_stride = 0;
  Element gamma_dtype = Element::kBFloat16;  // and beta's
  const void* gamma = nullptr;
  const void* beta = nullptr;
  float epsilon = 1e-5f;
  Element y_dtype = Element::kBFloat16;
  void* y = nullptr;
  int64_t y_stride = 0;
  float y_scale = 1.0f;  // of an e4m3 output
  int size = 0;
  int max_tokens = 0;
  const int32_t* num_tokens = nullptr;  // device
};

// cudaErrorInvalidValue for operands outside the table above.
cudaError_t LayerNorm(const LayerNormParams& params, LaunchContext& context);

}  // namespace trireme::cuda
