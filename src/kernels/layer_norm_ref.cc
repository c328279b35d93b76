// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "kernels/layer_norm.h"

namespace trireme::kernels {

void LayerNormReference(const LayerNormParams& p) {
  const float size = static_cast<float>(p.size);
  for (int64_t t = 0; t < p.num_tokens; ++t) {
    const float* x = p.x + t * p.x_stride;
    const float* residual = p.residual ? p.residual + t * p.residual_stride : nullptr;
    float* h = p.h ? p.h + t * p.h_stride : nullptr;
    float* y = p.y + t * p.y_stride;
    const auto value = [&](int64_t i) { return residual ? x[i] + residual[i] : x[i]; };
    float sum = 0.0f;
    for (int64_t i = 0; i < p.size; ++i) sum += value(i);
    const float mean = sum / size;
    float squares = 0.0f;
    for (int64_t i = 0; i < p.size; ++i) squares += (value(i) - mean) * (value(i) - mean);
    const float scale = 1.0f / std::sqrt(squares / size + p.epsilon);
    for (int64_t i = 0; i < p.size; ++i) {
      const float v = value(i);
      if (h) h[i] = v;
      const float normed = (v - mean) * scale;
      y[i] = (p.gamma ? normed * p.gamma[i] : normed) + (p.beta ? p.beta[i] : 0.0f);
    }
  }
}

}  // namespace trireme::kernels
