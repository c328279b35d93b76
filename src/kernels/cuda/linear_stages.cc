// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/linear_stages.h"

#include "device/cuda/cuda_status.h"
#include "kernels/cuda/quantize_rows.h"
#include "kernels/cuda/rms_norm.h"

namespace trireme::cuda {
namespace {

int64_t BytesOf(Element element) {
  switch (element) {
    case Element::kFloat32: return 4;
    case Element::kFloat16:
    case Element::kBFloat16: return 2;
    case Element::kFloat8E4M3:
    case Element::kInt8: return 1;
  }
  return 0;
}

int64_t RoundUp256(int64_t bytes) { return (bytes + 255) / 256 * 256; }

Element OperandOf(const LinearProblem& problem) {
  return problem.weight == LinearWeight::kFloat8E4M3 ? Element::kFloat8E4M3 : problem.dtype;
}

}  // namespace

MatmulProblem MatmulOf(const LinearProblem& problem, int max_rows) {
  MatmulProblem matmul;
  matmul.out_features = problem.out_features;
  matmul.in_features = problem.in_features;
  matmul.operand = OperandOf(problem);
  matmul.output = problem.gated ? problem.dtype : problem.y_dtype;
  matmul.bias = problem.dtype;
  matmul.has_bias = problem.has_bias;
  matmul.has_residual = problem.has_residual;
  matmul.max_rows = max_rows;
  return matmul;
}

LinearStages::LinearStages(const LinearProblem& problem, int max_rows)
    : problem_(problem), quantizes_(OperandOf(problem) != problem.x_dtype) {
  if (problem.has_rms_norm || quantizes_) {
    input_bytes_ = RoundUp256(max_rows * problem.in_features * BytesOf(OperandOf(problem)));
  }
  if (problem.gated) {
    gate_bytes_ = RoundUp256(max_rows * problem.out_features * BytesOf(problem.dtype));
  }
}

Status LinearStages::Before(const LinearOperands& operands, void* workspace, LaunchContext& context,
                            MatmulOperands* matmul) const {
  matmul->x = operands.x;
  matmul->x_stride = operands.x_stride;
  if (problem_.has_rms_norm) TRIREME_RETURN_IF_ERROR(Normalize(operands, workspace, context));
  if (!problem_.has_rms_norm && quantizes_) {
    TRIREME_RETURN_IF_ERROR(Quantize(operands, workspace, context));
  }
  if (input_bytes_ > 0) {
    matmul->x = workspace;
    matmul->x_stride = problem_.in_features;
  }
  matmul->weight = operands.weight;
  matmul->bias = operands.bias;
  matmul->residual = operands.residual;
  matmul->residual_stride = operands.residual_stride;
  matmul->y = problem_.gated ? static_cast<std::byte*>(workspace) + input_bytes_ : operands.y;
  matmul->y_stride = problem_.gated ? problem_.out_features : operands.y_stride;
  const bool fp8 = problem_.weight == LinearWeight::kFloat8E4M3;
  matmul->alpha = fp8 ? operands.x_scale * operands.w_scale : 1.0f;
  matmul->num_rows = operands.num_rows;
  return OkStatus();
}

Status LinearStages::Normalize(const LinearOperands& operands, void* q,
                               LaunchContext& context) const {
  RmsNormParams params;
  params.dtype = problem_.dtype;
  params.x = operands.x;
  params.x_stride = operands.x_stride;
  params.gamma_dtype = problem_.dtype;
  params.gamma = operands.gamma;
  params.gamma_plus_one = problem_.gamma_plus_one;
  params.epsilon = operands.epsilon;
  params.y_dtype = OperandOf(problem_);
  params.y = q;
  params.y_stride = problem_.in_features;
  params.y_scale = operands.x_scale;
  params.size = static_cast<int>(problem_.in_features);
  params.max_tokens = operands.num_rows;
  params.num_tokens = operands.num_tokens;
  return CudaStatus(RmsNorm(params, context), "RmsNorm");
}

Status LinearStages::Quantize(const LinearOperands& operands, void* q,
                              LaunchContext& context) const {
  QuantizeRowsParams params;
  params.dtype = problem_.dtype;
  params.x = operands.x;
  params.x_stride = operands.x_stride;
  params.y = q;
  params.y_stride = problem_.in_features;
  params.scale = operands.x_scale;
  params.size = static_cast<int>(problem_.in_features);
  params.max_rows = operands.num_rows;
  params.num_rows = operands.num_tokens;
  return CudaStatus(QuantizeRows(params, context), "QuantizeRows");
}

Status LinearStages::After(const LinearOperands& operands, void* workspace,
                           LaunchContext& context) const {
  if (!problem_.gated) return OkStatus();
  const int64_t half = problem_.out_features / 2;
  const auto* gate = static_cast<const std::byte*>(workspace) + input_bytes_;
  ActivationParams params;
  params.dtype = problem_.dtype;
  params.activation = problem_.activation;
  params.x = gate;
  params.x_stride = problem_.out_features;
  params.up = gate + half * BytesOf(problem_.dtype);
  params.up_stride = problem_.out_features;
  params.y_dtype = problem_.y_dtype;
  params.y = operands.y;
  params.y_stride = operands.y_stride;
  params.y_scale = operands.y_scale;
  params.size = static_cast<int>(half);
  params.max_tokens = operands.num_rows;
  params.num_tokens = operands.num_tokens;
  return CudaStatus(Activate(params, context), "Activate");
}

}  // namespace trireme::cuda
