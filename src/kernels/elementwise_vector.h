// SPDX-License-Identifier: Apache-2.0
// Row kernels of elementwise.h, activation.h and embedding.h over a vector type V. Include from ISA
// files only.
#pragma once

#include "kernels/activation.h"
#include "kernels/elementwise.h"
#include "kernels/embedding.h"
#include "kernels/norm_vector.h"
#include "tensor/float_formats.h"

namespace trireme::kernels {

template <typename V, typename Fn>
TRIREME_ALWAYS_INLINE void BinaryRows(const BinaryParams& p, Fn fn) {
  for (int64_t r = 0; r < p.num_rows; ++r) {
    const float* a = p.a + r * p.a_stride;
    const float* b = p.b + r * p.b_stride;
    float* y = p.y + r * p.y_stride;
    ForVectors<V>(
        p.size, [&](int, int64_t i, int64_t n) __attribute__((always_inline)) {
          StoreUpTo<V>(y + i, fn(LoadUpTo<V>(a + i, n), LoadUpTo<V>(b + i, n)), n);
        });
  }
}

template <typename V>
void AddRows(const BinaryParams& p) {
  using F = typename V::F;
  BinaryRows<V>(
      p, [](F a, F b) __attribute__((always_inline)) { return V::Add(a, b); });
}

template <typename V>
void MulRows(const BinaryParams& p) {
  using F = typename V::F;
  BinaryRows<V>(
      p, [](F a, F b) __attribute__((always_inline)) { return V::Mul(a, b); });
}

template <typename V, typename Fn>
TRIREME_ALWAYS_INLINE void UnaryRows(const UnaryParams& p, Fn fn) {
  for (int64_t r = 0; r < p.num_rows; ++r) {
    const float* x = p.x + r * p.x_stride;
    float* y = p.y + r * p.y_stride;
    ForVectors<V>(
        p.size, [&](int, int64_t i, int64_t n) __attribute__((always_inline)) {
          StoreUpTo<V>(y + i, fn(LoadUpTo<V>(x + i, n)), n);
        });
  }
}

template <typename V>
void ScaleRows(const UnaryParams& p) {
  using F = typename V::F;
  const F value = V::Set(p.value);
  UnaryRows<V>(
      p, [&](F x) __attribute__((always_inline)) { return V::Mul(value, x); });
}

template <typename V>
void SoftCapRows(const UnaryParams& p) {
  using F = typename V::F;
  const F value = V::Set(p.value);
  UnaryRows<V>(
      p, [&](F x) __attribute__((always_inline)) {
        return V::Mul(value, VectorTanh<V>(V::Div(x, value)));
      });
}

template <typename V, typename Fn>
TRIREME_ALWAYS_INLINE void ActivateRowsWith(const ActivationParams& p, Fn fn) {
  for (int64_t t = 0; t < p.num_tokens; ++t) {
    const float* x = p.x + t * p.x_stride;
    const float* up = p.up ? p.up + t * p.up_stride : nullptr;
    float* y = p.y + t * p.y_stride;
    ForVectors<V>(
        p.size, [&](int, int64_t i, int64_t n) __attribute__((always_inline)) {
          typename V::F value = fn(LoadUpTo<V>(x + i, n));
          if (up) value = V::Mul(value, LoadUpTo<V>(up + i, n));
          StoreUpTo<V>(y + i, value, n);
        });
  }
}

template <typename V>
void ActivateRows(const ActivationParams& p) {
  using F = typename V::F;
  switch (p.activation) {
    case Activation::kSilu: return ActivateRowsWith<V>(p, VectorSilu<V>);
    case Activation::kGelu: return ActivateRowsWith<V>(p, VectorGelu<V>);
    case Activation::kGeluTanh: return ActivateRowsWith<V>(p, VectorGeluTanh<V>);
    case Activation::kRelu:
      return ActivateRowsWith<V>(
          p, [](F x) __attribute__((always_inline)) { return V::Max(V::Zero(), x); });
  }
}

template <typename V, typename T>
void EmbeddingRowsOf(const EmbeddingParams& p) {
  const T* table = reinterpret_cast<const T*>(p.table);
  const typename V::F scale = V::Set(p.scale);
  for (int64_t t = 0; t < p.num_tokens; ++t) {
    const T* row = table + p.token_ids[t] * p.hidden_size;
    float* y = p.y + t * p.y_stride;
    ForVectors<V>(
        p.hidden_size, [&](int, int64_t i, int64_t n) __attribute__((always_inline)) {
          const typename V::F value =
              n == V::kWidth ? V::Load(row + i) : V::LoadFirst(row + i, static_cast<int>(n));
          StoreUpTo<V>(y + i, V::Mul(value, scale), n);
        });
  }
}

template <typename V>
void EmbeddingRows(const EmbeddingParams& p) {
  switch (p.table_dtype) {
    case DType::kFloat32: return EmbeddingRowsOf<V, float>(p);
    case DType::kFloat16: return EmbeddingRowsOf<V, float16_t>(p);
    case DType::kBFloat16: return EmbeddingRowsOf<V, bfloat16_t>(p);
    default: return;  // refused by the dispatcher
  }
}

}  // namespace trireme::kernels
