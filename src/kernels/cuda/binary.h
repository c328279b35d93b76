// SPDX-License-Identifier: Apache-2.0
// Elementwise arithmetic on rows.
//
//   kAdd    y = a + b        kMul      y = a * b
//   kScale  y = value * a    kSoftCap  y = value * tanh(a / value)
//
// | operand | dtype | shape              | notes                                                   |
// |---------|-------|--------------------|---------------------------------------------------------|
// | a       | T     | [max_rows, size]   |                                                         |
// | b       | T     | [max_rows, size]   | kAdd, kMul; a stride of 0 repeats one row (a bias)      |
// | y       | T     | [max_rows, size]   | may be a or b itself                                    |
//
// T: bfloat16, float16 or float32 (logits). Only the first *num_rows rows are read or written.
// Pointers 16-byte aligned, size and strides multiples of 8. Computed in float32, rounded once.
// Deterministic. Bound by bandwidth. sm_80 up.
#pragma once

#include "device/cuda/launch.h"
#include "kernels/cuda/types.h"

namespace trireme::cuda {

enum class BinaryOp : uint8_t { kAdd, kMul, kScale, kSoftCap };

struct BinaryParams {
  Element dtype = Element::kBFloat16;
  BinaryOp op = BinaryOp::kAdd;
  const void* a = nullptr;
  int64_t a_stride = 0;
  const void* b = nullptr;
  int64_t b_stride = 0;
  float value = 1.0f;
  void* y = nullptr;
  int64_t y_stride = 0;
  int size = 0;
  int max_rows = 0;
  const int32_t* num_rows = nullptr;  // device
};

// cudaErrorInvalidValue for operands outside the table above.
cudaError_t Binary(const BinaryParams& params, LaunchContext& context);

}  // namespace trireme::cuda
