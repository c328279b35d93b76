// SPDX-License-Identifier: Apache-2.0
#include "kernels/linear_problem.h"

namespace trireme::kernels {
namespace {

GatedActivation GateOf(ActivationKind kind) {
  switch (kind) {
    case ActivationKind::kSilu: return GatedActivation::kSilu;
    case ActivationKind::kGelu: return GatedActivation::kGelu;
    case ActivationKind::kGeluTanh: return GatedActivation::kGeluTanh;
    case ActivationKind::kRelu: return GatedActivation::kRelu;
  }
  return GatedActivation::kNone;
}

}  // namespace

LinearProblem LinearProblemOf(const LinearAttrs& attrs, DType dtype, const WeightQuant& quant) {
  LinearProblem problem;
  problem.out_features = attrs.out_features;
  problem.in_features = attrs.in_features;
  problem.dtype = dtype;
  // On the CPU an FP8 weight is kept as the float values it stands for, and its input is rounded to
  // FP8 before the layer.
  if (quant.kind != WeightQuant::Kind::kFloat8) problem.quant = quant;
  if (attrs.gated) problem.gated = GateOf(attrs.gate_activation);
  return problem;
}

}  // namespace trireme::kernels
