// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "kernels/rms_norm.h"

namespace trireme::kernels {

void RmsNormReference(const RmsNormParams& p) {
  for (int64_t t = 0; t < p.num_tokens; ++t) {
    for (int64_t head = 0; head < p.num_heads; ++head) {
      const float* x = p.x + t * p.x_stride + head * p.x_head_stride;
      const float* residual = p.residual ? p.residual + t * p.residual_stride : nullptr;
      float* h = p.h ? p.h + t * p.h_stride : nullptr;
      float* y = p.y + t * p.y_stride + head * p.y_head_stride;
      float sum = 0.0f;
      for (int64_t i = 0; i < p.size; ++i) {
        const float value = residual ? x[i] + residual[i] : x[i];
        sum += value * value;
      }
      const float scale = 1.0f / std::sqrt(sum / static_cast<float>(p.size) + p.epsilon);
      for (int64_t i = 0; i < p.size; ++i) {
        const float value = residual ? x[i] + residual[i] : x[i];
        if (h) h[i] = value;
        y[i] = value * scale * (p.gamma_plus_one ? 1.0f + p.gamma[i] : p.gamma[i]);
      }
    }
  }
}

}  // namespace trireme::kernels
