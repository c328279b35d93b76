// SPDX-License-Identifier: Apache-2.0
// Elementwise arithmetic and row copies on float32 rows. Engine thread only.
//
//   Add       y = a + b                  Mul    y = a * b
//   Scale     y = value * x              SoftCap y = value * tanh(x / value)
//   CopyRows  y = x, row strides apart   GatherRows y[r] = x[rows[r]]
//
// Operands are [num_rows, size] with a row stride in elements; a stride of 0 repeats one row (a
// bias). y may be an input itself. Bound by memory.
#pragma once

#include <cstdint>

#include "kernels/cpu_context.h"

namespace trireme::kernels {

struct BinaryParams {
  const float* a = nullptr;
  int64_t a_stride = 0;
  const float* b = nullptr;
  int64_t b_stride = 0;
  float* y = nullptr;
  int64_t y_stride = 0;
  int64_t num_rows = 0;
  int64_t size = 0;
};

struct UnaryParams {
  const float* x = nullptr;
  int64_t x_stride = 0;
  float value = 1.0f;  // of Scale and SoftCap
  float* y = nullptr;
  int64_t y_stride = 0;
  int64_t num_rows = 0;
  int64_t size = 0;
};

struct GatherRowsParams {
  const float* x = nullptr;
  int64_t x_stride = 0;
  const int32_t* rows = nullptr;  // [num_rows], each a row of x
  float* y = nullptr;             // must not overlap x
  int64_t y_stride = 0;
  int64_t num_rows = 0;
  int64_t size = 0;
};

void Add(const BinaryParams& params, CpuContext& context);
void Mul(const BinaryParams& params, CpuContext& context);
void Scale(const UnaryParams& params, CpuContext& context);
void SoftCap(const UnaryParams& params, CpuContext& context);
void CopyRows(const UnaryParams& params, CpuContext& context);
void GatherRows(const GatherRowsParams& params, CpuContext& context);

void AddReference(const BinaryParams& params);
void MulReference(const BinaryParams& params);
void ScaleReference(const UnaryParams& params);
void SoftCapReference(const UnaryParams& params);
void CopyRowsReference(const UnaryParams& params);
void GatherRowsReference(const GatherRowsParams& params);

}  // namespace trireme::kernels
