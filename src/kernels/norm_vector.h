// SPDX-License-Identifier: Apache-2.0
// Row kernels of rms_norm.h and layer_norm.h over a vector type V. Include from ISA files only.
//
// A row is summed in four interleaved accumulators and a tail, joined in one fixed tree: the order
// depends on the row's size alone.
#pragma once

#include "kernels/layer_norm.h"
#include "kernels/rms_norm.h"
#include "kernels/vector_math.h"

namespace trireme::kernels {

// Calls fn(accumulator, i, n) for vectors of n elements that cover [0, size).
template <typename V, typename Fn>
TRIREME_ALWAYS_INLINE void ForVectors(int64_t size, Fn fn) {
  constexpr int64_t kWidth = V::kWidth;
  int64_t i = 0;
  for (; i + 4 * kWidth <= size; i += 4 * kWidth) {
    fn(0, i, kWidth);
    fn(1, i + kWidth, kWidth);
    fn(2, i + 2 * kWidth, kWidth);
    fn(3, i + 3 * kWidth, kWidth);
  }
  for (; i + kWidth <= size; i += kWidth) fn(0, i, kWidth);
  if (i < size) fn(1, i, size - i);
}

template <typename V>
TRIREME_ALWAYS_INLINE typename V::F LoadUpTo(const float* p, int64_t n) {
  return n == V::kWidth ? V::Load(p) : V::LoadFirst(p, static_cast<int>(n));
}

template <typename V>
TRIREME_ALWAYS_INLINE void StoreUpTo(float* p, typename V::F a, int64_t n) {
  if (n == V::kWidth) {
    V::Store(p, a);
  } else {
    V::StoreFirst(p, a, static_cast<int>(n));
  }
}

template <typename V>
TRIREME_ALWAYS_INLINE float JoinAccumulators(const typename V::F* sums) {
  return V::ReduceAdd(V::Add(V::Add(sums[0], sums[1]), V::Add(sums[2], sums[3])));
}

// h = x + residual, stored when h is wanted; returns the accumulators' sum of term(h).
template <typename V, typename Term>
TRIREME_ALWAYS_INLINE float AddAndSum(const float* x, const float* residual, float* h, int64_t size,
                                      Term term) {
  typename V::F sums[4] = {V::Zero(), V::Zero(), V::Zero(), V::Zero()};
  ForVectors<V>(
      size, [&](int k, int64_t i, int64_t n) __attribute__((always_inline)) {
        typename V::F value = LoadUpTo<V>(x + i, n);
        if (residual) value = V::Add(value, LoadUpTo<V>(residual + i, n));
        if (h) StoreUpTo<V>(h + i, value, n);
        sums[k] = term(sums[k], value);
      });
  return JoinAccumulators<V>(sums);
}

template <typename V>
void RmsNormRow(const RmsNormParams& p, const float* x, const float* residual, float* h, float* y) {
  using F = typename V::F;
  const float sum = AddAndSum<V>(
      x, residual, h, p.size,
      [](F acc, F value) __attribute__((always_inline)) { return V::Fmadd(value, value, acc); });
  const float mean = sum / static_cast<float>(p.size) + p.epsilon;
  const F scale = V::Div(V::Set(1.0f), V::Sqrt(V::Set(mean)));
  const F offset = V::Set(p.gamma_plus_one ? 1.0f : 0.0f);
  ForVectors<V>(
      p.size, [&](int, int64_t i, int64_t n) __attribute__((always_inline)) {
        F value = LoadUpTo<V>((h ? h : x) + i, n);
        if (residual && !h) value = V::Add(value, LoadUpTo<V>(residual + i, n));
        const F gamma = V::Add(offset, LoadUpTo<V>(p.gamma + i, n));
        StoreUpTo<V>(y + i, V::Mul(V::Mul(value, scale), gamma), n);
      });
}

template <typename V>
void RmsNormRows(const RmsNormParams& p) {
  for (int64_t t = 0; t < p.num_tokens; ++t) {
    const float* residual = p.residual ? p.residual + t * p.residual_stride : nullptr;
    float* h = p.h ? p.h + t * p.h_stride : nullptr;
    for (int64_t head = 0; head < p.num_heads; ++head) {
      RmsNormRow<V>(p, p.x + t * p.x_stride + head * p.x_head_stride, residual, h,
                    p.y + t * p.y_stride + head * p.y_head_stride);
    }
  }
}

template <typename V>
void LayerNormRow(const LayerNormParams& p, const float* x, const float* residual, float* h,
                  float* y) {
  using F = typename V::F;
  const float size = static_cast<float>(p.size);
  const float sum = AddAndSum<V>(
      x, residual, h, p.size,
      [](F acc, F value) __attribute__((always_inline)) { return V::Add(acc, value); });
  const F mean = V::Set(sum / size);
  const auto centered = [&](int64_t i, int64_t n) __attribute__((always_inline)) {
    F value = LoadUpTo<V>((h ? h : x) + i, n);
    if (residual && !h) value = V::Add(value, LoadUpTo<V>(residual + i, n));
    return V::Sub(value, mean);
  };
  F squares[4] = {V::Zero(), V::Zero(), V::Zero(), V::Zero()};
  ForVectors<V>(
      p.size, [&](int k, int64_t i, int64_t n) __attribute__((always_inline)) {
        const F value = V::KeepLanes(centered(i, n), 0, static_cast<int>(n), V::Zero());
        squares[k] = V::Fmadd(value, value, squares[k]);
      });
  const float variance = JoinAccumulators<V>(squares) / size;
  const F scale = V::Div(V::Set(1.0f), V::Sqrt(V::Set(variance + p.epsilon)));
  ForVectors<V>(
      p.size, [&](int, int64_t i, int64_t n) __attribute__((always_inline)) {
        F value = V::Mul(centered(i, n), scale);
        if (p.gamma) value = V::Mul(value, LoadUpTo<V>(p.gamma + i, n));
        if (p.beta) value = V::Add(value, LoadUpTo<V>(p.beta + i, n));
        StoreUpTo<V>(y + i, value, n);
      });
}

template <typename V>
void LayerNormRows(const LayerNormParams& p) {
  for (int64_t t = 0; t < p.num_tokens; ++t) {
    LayerNormRow<V>(p, p.x + t * p.x_stride,
                    p.residual ? p.residual + t * p.residual_stride : nullptr,
                    p.h ? p.h + t * p.h_stride : nullptr, p.y + t * p.y_stride);
  }
}

}  // namespace trireme::kernels
