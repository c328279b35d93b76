// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstring>

#include "kernels/elementwise.h"

namespace trireme::kernels {
namespace {

template <typename Fn>
void Binary(const BinaryParams& p, Fn fn) {
  for (int64_t r = 0; r < p.num_rows; ++r) {
    for (int64_t i = 0; i < p.size; ++i) {
      p.y[r * p.y_stride + i] = fn(p.a[r * p.a_stride + i], p.b[r * p.b_stride + i]);
    }
  }
}

template <typename Fn>
void Unary(const UnaryParams& p, Fn fn) {
  for (int64_t r = 0; r < p.num_rows; ++r) {
    for (int64_t i = 0; i < p.size; ++i) p.y[r * p.y_stride + i] = fn(p.x[r * p.x_stride + i]);
  }
}

}  // namespace

void AddReference(const BinaryParams& p) {
  Binary(p, [](float a, float b) { return a + b; });
}

void MulReference(const BinaryParams& p) {
  Binary(p, [](float a, float b) { return a * b; });
}

void ScaleReference(const UnaryParams& p) {
  Unary(p, [&](float x) { return p.value * x; });
}

void SoftCapReference(const UnaryParams& p) {
  Unary(p, [&](float x) { return p.value * std::tanh(x / p.value); });
}

void CopyRowsReference(const UnaryParams& p) {
  for (int64_t r = 0; r < p.num_rows; ++r) {
    std::memmove(p.y + r * p.y_stride, p.x + r * p.x_stride,
                 static_cast<size_t>(p.size) * sizeof(float));
  }
}

void GatherRowsReference(const GatherRowsParams& p) {
  for (int64_t r = 0; r < p.num_rows; ++r) {
    std::memcpy(p.y + r * p.y_stride, p.x + p.rows[r] * p.x_stride,
                static_cast<size_t>(p.size) * sizeof(float));
  }
}

}  // namespace trireme::kernels
