// SPDX-License-Identifier: Apache-2.0
// The meaning of a linear layer: plain loops over W dequantized to float32. Thread-safe.
#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "kernels/linear_variant.h"

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

// y[t][n] from the sums of output n: of its own row of W and, when gated, of its plain branch.
void Finish(const LinearProblem& problem, const LinearParams& params, int64_t t, int64_t n,
            float sum, float sum_up) {
  float y = sum + (params.bias != nullptr ? params.bias[n] : 0.0f);
  if (problem.gated != GatedActivation::kNone) {
    const int64_t outputs = problem.out_features / 2;
    const float up = sum_up + (params.bias != nullptr ? params.bias[outputs + n] : 0.0f);
    y = Activate(problem.gated, y) * up;
  }
  if (params.residual != nullptr) y += params.residual[t * params.residual_stride + n];
  params.y[t * params.y_stride + n] = y;
}

// Outputs that are summed side by side, each in its own order all the same: a width the compiler
// knows is several times as fast.
constexpr int64_t kLanes = 32;

void SumLanes(const float* x, const float* w, int64_t in, int64_t stride, float* sums) {
  float lanes[kLanes] = {};
  for (int64_t k = 0; k < in; ++k) {
    for (int64_t lane = 0; lane < kLanes; ++lane) lanes[lane] += x[k] * w[k * stride + lane];
  }
  std::copy_n(lanes, kLanes, sums);
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
      Finish(problem, params, t, n, Dot(x, first), gated ? Dot(x, second) : 0.0f);
    }
  }
}

StatusOr<PackedLinearReference> PackedLinearReference::Create(const LinearProblem& problem,
                                                              const std::string& layout) {
  TRIREME_RETURN_IF_ERROR(FindPacking(problem, layout).status());
  PackedLinearReference reference;
  reference.problem_ = problem;
  reference.layout_ = layout;
  return reference;
}

void PackedLinearReference::Run(const LinearParams& params) const {
  const LinearPacking packing = FindPacking(problem_, layout_).value();
  const bool gated = problem_.gated != GatedActivation::kNone;
  const int64_t outputs = gated ? problem_.out_features / 2 : problem_.out_features;
  const int64_t in = problem_.in_features;
  TRIREME_CHECK_EQ(packing.block_n % kLanes, 0);
  std::vector<float> weights(static_cast<size_t>(in * packing.block_n));
  std::vector<float> sums(static_cast<size_t>(packing.block_n));
  for (int64_t block = 0; block < packing.num_blocks; ++block) {
    UnpackLinearBlock(problem_, packing, params.packed + block * packing.block_bytes, weights);
    const int64_t first = block * packing.outputs_per_block;
    const int64_t count = std::min(packing.outputs_per_block, outputs - first);
    for (int64_t t = 0; t < params.num_tokens; ++t) {
      const float* x = params.x + t * params.x_stride;
      for (int64_t at = 0; at < packing.block_n; at += kLanes) {
        SumLanes(x, weights.data() + at, in, packing.block_n, sums.data() + at);
      }
      for (int64_t i = 0; i < count; ++i) {
        const float up = gated ? sums[static_cast<size_t>(packing.outputs_per_block + i)] : 0.0f;
        Finish(problem_, params, t, first + i, sums[static_cast<size_t>(i)], up);
      }
    }
  }
}

}  // namespace trireme::kernels
