// SPDX-License-Identifier: Apache-2.0
// CombineExperts of experts.h over a vector type V, and its variants. Include `V` from ISA files only.
#pragma once

#include "kernels/experts.h"
#include "kernels/norm_vector.h"

namespace trireme::kernels {

using CombineExpertsFn = void (*)(const CombineExpertsParams&);
extern const CombineExpertsFn kAvx2CombineExperts;
extern const CombineExpertsFn kAvx512CombineExperts;

template <typename V>
void CombineExpertsRows(const CombineExpertsParams& p) {
  using F = typename V::F;
  for (int64_t t = 0; t < p.num_tokens; ++t) {
    const float* x = p.x + t * p.x_stride;
    const float* weights = p.routing + t * p.routing_stride + p.top_k;
    float* y = p.y + t * p.y_stride;
    ForVectors<V>(
        p.size, [&](int, int64_t i, int64_t n) __attribute__((always_inline)) {
          F sum = V::Zero();
          for (int choice = 0; choice < p.top_k; ++choice) {
            const F value = LoadUpTo<V>(x + choice * p.x_choice_stride + i, n);
            sum = V::Add(sum, V::Mul(V::Set(weights[choice]), value));
          }
          StoreUpTo<V>(y + i, sum, n);
        });
  }
}

}  // namespace trireme::kernels
