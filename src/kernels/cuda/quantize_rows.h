// SPDX-License-Identifier: Apache-2.0
// Rows to e4m3 with one static scale: y = e4m3(x / scale), saturating at +-448.
//
// | operand | dtype | shape            | notes               |
// |---------|-------|------------------|---------------------|
// | x       | T     | [max_rows, size] | row stride x_stride |
// | y       | e4m3  | [max_rows, size] | row stride y_stride |
//
// T: bfloat16 or float16. Only the first *num_rows rows are read or written. Pointers 16-byte
// aligned, size and strides multiples of 8. Deterministic. Bound by bandwidth. sm_80 up.
#pragma once

#include "device/cuda/launch.h"
#include "kernels/cuda/types.h"

namespace trireme::cuda {

struct QuantizeRowsParams {
  Element dtype = Element::kBFloat16;
  const void* x = nullptr;
  int64_t x_stride = 0;
  void* y = nullptr;
  int64_t y_stride = 0;
  float scale = 1.0f;  // > 0
  int size = 0;
  int max_rows = 0;
  const int32_t* num_rows = nullptr;  // device
};

// cudaErrorInvalidValue for operands outside the table above.
cudaError_t QuantizeRows(const QuantizeRowsParams& params, LaunchContext& context);

}  // namespace trireme::cuda
