// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/plan_types.h"

namespace trireme::cuda {

StatusOr<Element> ElementOf(DType dtype) {
  switch (dtype) {
    case DType::kFloat32: return Element::kFloat32;
    case DType::kFloat16: return Element::kFloat16;
    case DType::kBFloat16: return Element::kBFloat16;
    case DType::kFloat8E4M3: return Element::kFloat8E4M3;
    case DType::kInt8: return Element::kInt8;
    default: return Unimplemented("no CUDA kernel reads {}", DTypeName(dtype));
  }
}

Activation ActivationOf(ActivationKind kind) {
  switch (kind) {
    case ActivationKind::kSilu: return Activation::kSilu;
    case ActivationKind::kGelu: return Activation::kGelu;
    case ActivationKind::kGeluTanh: return Activation::kGeluTanh;
    case ActivationKind::kRelu: return Activation::kRelu;
  }
  return Activation::kSilu;
}

RotaryStyle RotaryStyleOf(RotaryKind kind) {
  switch (kind) {
    case RotaryKind::kNone: return RotaryStyle::kNone;
    case RotaryKind::kNeox: return RotaryStyle::kNeox;
    case RotaryKind::kGptj: return RotaryStyle::kGptj;
  }
  return RotaryStyle::kNone;
}

StatusOr<LinearProblem> LinearProblemOf(const LinearAttrs& attrs, const LinearTypes& types,
                                        const WeightQuant& quant) {
  LinearProblem problem;
  if (quant.kind == WeightQuant::Kind::kFloat8) {
    problem.weight = LinearWeight::kFloat8E4M3;
  } else if (quant.kind != WeightQuant::Kind::kNone) {
    return Unimplemented("no CUDA kernel reads integer weights yet");
  }
  problem.out_features = attrs.out_features;
  problem.in_features = attrs.in_features;
  TRIREME_ASSIGN_OR_RETURN(problem.dtype, ElementOf(types.dtype));
  TRIREME_ASSIGN_OR_RETURN(problem.x_dtype, ElementOf(types.x));
  TRIREME_ASSIGN_OR_RETURN(problem.y_dtype, ElementOf(types.y));
  problem.has_rms_norm = attrs.has_norm;
  problem.gamma_plus_one = attrs.norm.gamma_offset;
  problem.has_bias = attrs.has_bias && !AddsBiasApart(attrs, types.y);
  problem.has_residual = attrs.has_residual;
  problem.gated = attrs.gated;
  problem.activation = ActivationOf(attrs.gate_activation);
  TRIREME_RETURN_IF_ERROR(SupportsLinear(problem));
  return problem;
}

}  // namespace trireme::cuda
