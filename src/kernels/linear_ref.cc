// SPDX-License-Identifier: Apache-2.0
// The meaning of a linear layer: plain loops over W dequantized to float32. Thread-safe.
#include <cmath>

#include "base/check.h"
#include "kernels/linear.h"

namespace trireme::kernels {
namespace {

float Activate(GatedActivation activation, float x) {
  switch (activation) {
    case GatedActivation::kNone: return x;
    case GatedActivation::kSilu: return x / (1.0f + std::exp(-x));
    case GatedActivation::kGelu: return 0.5f * x * (1.0f + std::erf(x * 0.70710678f));
    case GatedActivation::kGeluTanh:
      return 0.5f * x * (1.0f + std::tanh(0.79788456f * (x + 0.044715f * x * x * x)));
    case GatedActivation::kRelu: return x > 0 ? x : 0.0f;
  }
  return x;
}

float IntegerWeight(const TensorView& weight, int64_t index) {
  if (weight.dtype == DType::kInt8) return weight.as<int8_t>()[index];
  const uint8_t byte = weight.as<uint8_t>()[index / 2];
  const int nibble = index % 2 == 0 ? byte & 0xf : byte >> 4;
  return static_cast<float>(nibble < 8 ? nibble : nibble - 16);
}

// Row `row` of W as float32.
void DequantizeRow(const LinearProblem& problem, const TensorView& weight, const TensorView* scales,
                   int64_t row, std::vector<float>& out) {
  const int64_t in = problem.in_features;
  const int64_t group = problem.quant.group_size == 0 ? in : problem.quant.group_size;
  const int64_t num_groups = (in + group - 1) / group;
  for (int64_t k = 0; k < in; ++k) {
    const int64_t index = row * in + k;
    if (problem.quant.kind == WeightQuant::Kind::kNone) {
      out[k] = LoadAsFloat(weight, index);
    } else {
      out[k] = IntegerWeight(weight, index) * LoadAsFloat(*scales, row * num_groups + k / group);
    }
  }
}

float Dot(const float* x, const std::vector<float>& w) {
  float sum = 0;
  for (size_t k = 0; k < w.size(); ++k) sum += x[k] * w[k];
  return sum;
}

}  // namespace

void LinearReference(const LinearProblem& problem, const TensorView& weight,
                     const TensorView* scales, const LinearParams& params) {
  TRIREME_CHECK(problem.quant.kind == WeightQuant::Kind::kNone || scales != nullptr);
  const bool gated = problem.gated != GatedActivation::kNone;
  const int64_t outputs = gated ? problem.out_features / 2 : problem.out_features;
  std::vector<float> first(static_cast<size_t>(problem.in_features));
  std::vector<float> second(first.size());
  for (int64_t n = 0; n < outputs; ++n) {
    DequantizeRow(problem, weight, scales, n, first);
    if (gated) DequantizeRow(problem, weight, scales, outputs + n, second);
    for (int64_t t = 0; t < params.num_tokens; ++t) {
      const float* x = params.x + t * params.x_stride;
      float y = Dot(x, first) + (params.bias != nullptr ? params.bias[n] : 0.0f);
      if (gated) {
        const float up =
            Dot(x, second) + (params.bias != nullptr ? params.bias[outputs + n] : 0.0f);
        y = Activate(problem.gated, y) * up;
      }
      if (params.residual != nullptr) y += params.residual[t * params.residual_stride + n];
      params.y[t * params.y_stride + n] = y;
    }
  }
}

}  // namespace trireme::kernels
