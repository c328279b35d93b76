// SPDX-License-Identifier: Apache-2.0
// Rows by index: y[r] = x[rows[r]], or with `base` y[r] = T(base[r] + x[rows[r] + row_offset])
// (learned position embeddings: x the table, rows the positions).
//
// | operand | dtype | shape                    | notes                                              |
// |---------|-------|--------------------------|----------------------------------------------------|
// | x       | T     | [num_x_rows, size]       | row stride x_stride                                |
// | rows    | int32 | [max_rows]               | outside [0, num_x_rows) with the offset: zeros     |
// | base    | T     | [max_rows, size] or null |                                                    |
// | y       | T     | [max_rows, size]         | may be base, never x                               |
//
// T: bfloat16 or float16. Only the first *num_rows rows are read or written. Pointers 16-byte
// aligned, size and strides multiples of 8. Deterministic. Bound by bandwidth. sm_80 up.
#pragma once

#include "device/cuda/launch.h"
#include "kernels/cuda/types.h"

namespace trireme::cuda {

struct SelectRowsParams {
  Element dtype = Element::kBFloat16;
  const void* x = nullptr;
  int64_t x_stride = 0;
  int64_t num_x_rows = 0;
  const int32_t* rows = nullptr;
  int row_offset = 0;
  const void* base = nullptr;
  int64_t base_stride = 0;
  void* y = nullptr;
  int64_t y_stride = 0;
  int size = 0;
  int max_rows = 0;
  const int32_t* num_rows = nullptr;  // device
};

// cudaErrorInvalidValue for operands outside the table above.
cudaError_t SelectRows(const SelectRowsParams& params, LaunchContext& context);

}  // namespace trireme::cuda
