// SPDX-License-Identifier: Apache-2.0
// rope_kv_write.h over a vector type V and a cache of T, for head_dim a multiple of 16. Include from
// ISA files only. Products and sums are rounded one by one, as the reference does.
#pragma once

#include "kernels/rope_kv_write.h"
#include "kernels/step_access.h"
#include "kernels/vector_math.h"
#include "tensor/float_formats.h"

namespace trireme::kernels {

// y = rotated x; y may be x. `half` is rotary_dim / 2, a multiple of V::kWidth for the vector loop.
template <typename V>
TRIREME_ALWAYS_INLINE void RotateNeox(const float* cos, const float* sin, int half, const float* x,
                                      float* y) {
  int j = 0;
  for (; j + V::kWidth <= half; j += V::kWidth) {
    const typename V::F a = V::Load(x + j);
    const typename V::F b = V::Load(x + half + j);
    const typename V::F c = V::Load(cos + j);
    const typename V::F s = V::Load(sin + j);
    V::Store(y + j, V::Sub(V::Mul(a, c), V::Mul(b, s)));
    V::Store(y + half + j, V::Add(V::Mul(b, c), V::Mul(a, s)));
  }
  for (; j < half; ++j) {
    const float a = x[j];
    const float b = x[half + j];
    y[j] = a * cos[j] - b * sin[j];
    y[half + j] = b * cos[j] + a * sin[j];
  }
}

TRIREME_ALWAYS_INLINE void RotateGptj(const float* cos, const float* sin, int half, const float* x,
                                      float* y) {
  for (int j = 0; j < half; ++j) {
    const float a = x[2 * j];
    const float b = x[2 * j + 1];
    y[2 * j] = a * cos[j] - b * sin[j];
    y[2 * j + 1] = b * cos[j] + a * sin[j];
  }
}

template <typename V>
TRIREME_ALWAYS_INLINE void RotateHead(const RopeKvWriteParams& p, int64_t position, const float* x,
                                      float* y) {
  const int half = p.style == RotaryStyle::kNone ? 0 : p.rotary_dim / 2;
  const float* cos = p.cos + position * half;
  const float* sin = p.sin + position * half;
  if (p.style == RotaryStyle::kNeox) RotateNeox<V>(cos, sin, half, x, y);
  if (p.style == RotaryStyle::kGptj) RotateGptj(cos, sin, half, x, y);
  if (x == y) return;
  int i = 2 * half;
  for (; i % V::kWidth != 0; ++i) y[i] = x[i];
  for (; i < p.kv.layout.head_dim; i += V::kWidth) V::Store(y + i, V::Load(x + i));
}

template <typename V, typename T>
void RopeKvWriteTokens(const RopeKvWriteParams& p, int64_t begin, int64_t end) {
  const KvLayout& layout = p.kv.layout;
  const int head_dim = layout.head_dim;
  for (int64_t t = begin; t < end; ++t) {
    const CacheSlot slot = SlotOfToken(p.step, layout, t);
    const int64_t position = p.style == RotaryStyle::kNone ? 0 : p.step.positions[t];
    const float* q = p.qkv + t * p.qkv_stride;
    const float* k = q + int64_t{p.num_heads} * head_dim;
    const float* v = k + int64_t{layout.num_kv_heads} * head_dim;
    for (int head = 0; head < p.num_heads; ++head) {
      RotateHead<V>(p, position, q + head * head_dim, p.q + t * p.q_stride + head * head_dim);
    }
    for (int head = 0; head < layout.num_kv_heads; ++head) {
      alignas(64) float rotated[kMaxHeadDim];
      alignas(64) T rounded[kMaxHeadDim];
      RotateHead<V>(p, position, k + head * head_dim, rotated);
      for (int i = 0; i < head_dim; i += V::kWidth) V::Store(rounded + i, V::Load(rotated + i));
      T* keys = reinterpret_cast<T*>(p.kv.pool + layout.Offset(slot.block, p.layer, false, head)) +
                layout.KeyIndex(slot.token, 0);
      const int64_t step = layout.key_group();
      for (int i = 0; i < head_dim; ++i) keys[i * step] = rounded[i];
      T* values = reinterpret_cast<T*>(p.kv.pool + layout.Offset(slot.block, p.layer, true, head)) +
                  layout.ValueIndex(slot.token, 0);
      for (int i = 0; i < head_dim; i += V::kWidth) {
        V::Store(values + i, V::Load(v + head * head_dim + i));
      }
    }
  }
}

}  // namespace trireme::kernels
