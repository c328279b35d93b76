// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "kernels/experts.h"

namespace trireme::kernels {
namespace {

bool IsChosen(const float* ids, int count, int expert) {
  for (int i = 0; i < count; ++i) {
    if (ids[i] == static_cast<float>(expert)) return true;
  }
  return false;
}

void RouteToken(const RouteExpertsParams& p, const float* logits, float* ids, float* weights) {
  float sum = 0.0f;
  for (int i = 0; i < p.top_k; ++i) {
    int best = -1;
    for (int expert = 0; expert < p.num_experts; ++expert) {
      if (IsChosen(ids, i, expert)) continue;
      // Comparisons with a NaN are false: ids stay distinct and in range all the same.
      if (best < 0 || logits[expert] > logits[best]) best = expert;
    }
    ids[i] = static_cast<float>(best);
    weights[i] = std::exp(logits[best] - logits[static_cast<int>(ids[0])]);
    sum += weights[i];
  }
  if (!p.normalize) {
    for (int expert = 0; expert < p.num_experts; ++expert) {
      if (IsChosen(ids, p.top_k, expert)) continue;
      sum += std::exp(logits[expert] - logits[static_cast<int>(ids[0])]);
    }
  }
  for (int i = 0; i < p.top_k; ++i) weights[i] /= sum;
}

}  // namespace

void RouteExpertsReference(const RouteExpertsParams& p) {
  for (int64_t t = 0; t < p.num_tokens; ++t) {
    float* routing = p.routing + t * p.routing_stride;
    RouteToken(p, p.logits + t * p.logits_stride, routing, routing + p.top_k);
  }
}

void CombineExpertsReference(const CombineExpertsParams& p) {
  for (int64_t t = 0; t < p.num_tokens; ++t) {
    const float* weights = p.routing + t * p.routing_stride + p.top_k;
    for (int64_t c = 0; c < p.size; ++c) {
      float sum = 0.0f;
      for (int i = 0; i < p.top_k; ++i) {
        sum += weights[i] * p.x[t * p.x_stride + i * p.x_choice_stride + c];
      }
      p.y[t * p.y_stride + c] = sum;
    }
  }
}

}  // namespace trireme::kernels
