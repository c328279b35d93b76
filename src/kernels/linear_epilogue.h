// SPDX-License-Identifier: Apache-2.0
// From accumulators to rows of y, over any vector type of vector_math.h. Pure; include from the
// files of one instruction set only, each with its own vector type.
#pragma once

#include <algorithm>

#include "kernels/linear_variant.h"
#include "kernels/vector_math.h"

namespace trireme::kernels {

template <typename V, GatedActivation kGated>
TRIREME_ALWAYS_INLINE typename V::F ApplyGate(typename V::F x) {
  if constexpr (kGated == GatedActivation::kSilu) return VectorSilu<V>(x);
  if constexpr (kGated == GatedActivation::kGelu) return VectorGelu<V>(x);
  if constexpr (kGated == GatedActivation::kGeluTanh) return VectorGeluTanh<V>(x);
  if constexpr (kGated == GatedActivation::kRelu) return V::Max(V::Set(0.0f), x);
  return x;
}

// One vector of y: scale, then bias, then the gate, then the residual.
template <typename V, GatedActivation kGated>
TRIREME_ALWAYS_INLINE void FinishVector(const LinearEpilogue& e, int64_t row, int64_t n,
                                        int count) {
  using F = typename V::F;
  const float* accumulators = e.accumulators + row * e.block_n + n;
  F y = V::Load(accumulators);
  if (e.scales != nullptr) y = V::Mul(y, V::Load(e.scales + n));
  if (e.bias != nullptr) y = V::Add(y, V::LoadFirst(e.bias + n, count));
  if constexpr (kGated != GatedActivation::kNone) {
    const int64_t half = e.block_n / 2;
    F up = V::Load(accumulators + half);
    if (e.scales != nullptr) up = V::Mul(up, V::Load(e.scales + half + n));
    if (e.bias_up != nullptr) up = V::Add(up, V::LoadFirst(e.bias_up + n, count));
    y = V::Mul(ApplyGate<V, kGated>(y), up);
  }
  if (e.residual != nullptr) {
    y = V::Add(y, V::LoadFirst(e.residual + row * e.residual_stride + n, count));
  }
  V::StoreFirst(e.y + row * e.y_stride + n, y, count);
}

template <typename V, GatedActivation kGated>
TRIREME_ALWAYS_INLINE void FinishRows(const LinearEpilogue& e) {
  for (int64_t row = 0; row < e.rows; ++row) {
    for (int64_t n = 0; n < e.n_count; n += V::kWidth) {
      const int64_t left = e.n_count - n;
      FinishVector<V, kGated>(e, row, n, left < V::kWidth ? static_cast<int>(left) : V::kWidth);
    }
  }
}

template <typename V>
TRIREME_ALWAYS_INLINE void FinishTile(const LinearEpilogue& e) {
  switch (e.gated) {
    case GatedActivation::kNone: return FinishRows<V, GatedActivation::kNone>(e);
    case GatedActivation::kSilu: return FinishRows<V, GatedActivation::kSilu>(e);
    case GatedActivation::kGelu: return FinishRows<V, GatedActivation::kGelu>(e);
    case GatedActivation::kGeluTanh: return FinishRows<V, GatedActivation::kGeluTanh>(e);
    case GatedActivation::kRelu: return FinishRows<V, GatedActivation::kRelu>(e);
  }
}

}  // namespace trireme::kernels
