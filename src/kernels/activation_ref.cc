// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "kernels/activation.h"

namespace trireme::kernels {
namespace {

float Apply(Activation activation, float x) {
  switch (activation) {
    case Activation::kSilu: return x / (1.0f + std::exp(-x));
    case Activation::kGelu: return 0.5f * x * std::erfc(-x * 0.707106781f);
    case Activation::kGeluTanh: {
      const float u = 0.797884561f * (x + 0.044715f * x * x * x);
      return 0.5f * x * (1.0f + std::tanh(u));
    }
    case Activation::kRelu: return x > 0.0f ? x : 0.0f;
  }
  return x;
}

}  // namespace

void ActivateReference(const ActivationParams& p) {
  for (int64_t t = 0; t < p.num_tokens; ++t) {
    for (int64_t i = 0; i < p.size; ++i) {
      const float activated = Apply(p.activation, p.x[t * p.x_stride + i]);
      p.y[t * p.y_stride + i] = p.up ? activated * p.up[t * p.up_stride + i] : activated;
    }
  }
}

}  // namespace trireme::kernels
