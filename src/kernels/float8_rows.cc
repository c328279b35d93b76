// SPDX-License-Identifier: Apache-2.0
#include "kernels/float8_rows.h"

#include "kernels/parallel_rows.h"
#include "tensor/float_formats.h"

namespace trireme::kernels {

void RoundToFloat8(const Float8RowsParams& p, CpuContext& context) {
  constexpr int64_t kCostFactor = 4;  // of an element beside a plain copy
  ParallelRows(context, p.num_rows, p.size * kCostFactor, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const float* x = p.x + row * p.x_stride;
      float* y = p.y + row * p.y_stride;
      for (int64_t i = 0; i < p.size; ++i) y[i] = ToFloat(ToFloat8E4M3(x[i] / p.scale)) * p.scale;
    }
  });
}

}  // namespace trireme::kernels
