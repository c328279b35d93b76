// SPDX-License-Identifier: Apache-2.0
// Passes over a whole row of logits, for sampling_cpu.cc, over a vector type V. Include from ISA
// files only. Blocks are kSampleBlock elements, the last one perhaps fewer.
#pragma once

#include <cstdint>

#include "kernels/sampling_passes.h"
#include "kernels/vector_math.h"

namespace trireme::kernels {

// y = (x + bias) / divisor, NaN as -inf; without bias when null, without divisor when 0.
template <typename V>
void ProcessLogits(const float* x, const float* bias, float divisor, float* y, int64_t size) {
  using F = typename V::F;
  const F minus_infinity = V::Set(-__builtin_inff());
  for (int64_t i = 0; i < size; i += V::kWidth) {
    const int n = size - i < V::kWidth ? static_cast<int>(size - i) : V::kWidth;
    F value = V::LoadFirst(x + i, n);
    if (bias) value = V::Add(value, V::LoadFirst(bias + i, n));
    if (divisor != 0.0f) value = V::Div(value, V::Set(divisor));
    V::StoreFirst(y + i, V::Max(value, minus_infinity), n);
  }
}

// maxima[b] = the largest of block b, NaN apart; -inf when there is none.
template <typename V>
void BlockMaxima(const float* x, int64_t size, float* maxima) {
  using F = typename V::F;
  const F minus_infinity = V::Set(-__builtin_inff());
  for (int64_t begin = 0; begin < size; begin += kSampleBlock) {
    const int64_t end = begin + kSampleBlock < size ? begin + kSampleBlock : size;
    F max = minus_infinity;
    for (int64_t i = begin; i < end; i += V::kWidth) {
      if (i + V::kWidth <= end) {
        max = V::Max(V::Load(x + i), max);
      } else {
        const int n = static_cast<int>(end - i);
        max = V::Max(V::KeepLanes(V::LoadFirst(x + i, n), 0, n, minus_infinity), max);
      }
    }
    maxima[begin / kSampleBlock] = V::ReduceMax(max);
  }
}

// sums[b] = sum over block b of exp(x - shift).
template <typename V>
void BlockExpSums(const float* x, int64_t size, float shift, float* sums) {
  using F = typename V::F;
  const F offset = V::Set(shift);
  for (int64_t begin = 0; begin < size; begin += kSampleBlock) {
    const int64_t end = begin + kSampleBlock < size ? begin + kSampleBlock : size;
    F sum = V::Zero();
    for (int64_t i = begin; i < end; i += V::kWidth) {
      const int n = end - i < V::kWidth ? static_cast<int>(end - i) : V::kWidth;
      const F value = VectorExp<V>(V::Sub(V::LoadFirst(x + i, n), offset));
      sum = V::Add(sum, V::KeepLanes(value, 0, n, V::Zero()));
    }
    sums[begin / kSampleBlock] = V::ReduceAdd(sum);
  }
}

}  // namespace trireme::kernels
