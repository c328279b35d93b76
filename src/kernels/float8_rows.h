// SPDX-License-Identifier: Apache-2.0
// What FP8 makes of a row: y = e4m3(x / scale) * scale, saturating at +-448 * scale. Emulates FP8
// inputs of linear layers on processors that have none. Engine thread only.
//
// | operand | dtype   | shape            | notes               |
// |---------|---------|------------------|---------------------|
// | x       | float32 | [num_rows, size] | row stride x_stride |
// | y       | float32 | [num_rows, size] | may be x itself     |
#pragma once

#include <cstdint>

#include "kernels/cpu_context.h"

namespace trireme::kernels {

struct Float8RowsParams {
  const float* x = nullptr;
  int64_t x_stride = 0;
  float scale = 1.0f;  // > 0
  float* y = nullptr;
  int64_t y_stride = 0;
  int64_t num_rows = 0;
  int64_t size = 0;
};

void RoundToFloat8(const Float8RowsParams& params, CpuContext& context);

}  // namespace trireme::kernels
