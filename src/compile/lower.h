// SPDX-License-Identifier: Apache-2.0
// Lowering: a network after its passes becomes a plan, with tactics still open. Pure function.
#pragma once

#include <string>
#include <vector>

#include "kernels/linear.h"
#include "plan/plan.h"
#include "trireme/model_config.h"
#include "trireme/network.h"

namespace trireme::compile {

// Where the bytes of plan.weights[i] come from.
struct WeightSources {
  std::vector<std::string> names;   // checkpoint tensors, stacked along rows
  std::vector<std::string> scales;  // of the quantized ones, in the same order
  int linear_launch = -1;           // >= 0: packed for this launch's layout
  // >= 0: this one of `num_experts` matrices that the tensors stack along their first dimension.
  int expert = -1;
  int num_experts = 0;
};

struct Lowered {
  plan::Plan plan;
  std::vector<WeightSources> sources;  // one for each of plan.weights
};

struct LowerOptions {
  // "cpu": activations are float32. "cuda": they have `dtype`, logits are float32, and weights of
  // linear layers stay row-major.
  std::string device = "cpu";
  DType dtype = DType::kFloat32;
  DType kv_dtype = DType::kFloat32;
  bool synthetic = false;  // weights are made at load
};

StatusOr<Lowered> LowerNetwork(const Network& network, const ModelConfig& config,
                               const LowerOptions& options);

// The kernel problem of a linear launch.
kernels::LinearProblem ProblemOf(const plan::Plan& plan, const plan::Launch& launch);

}  // namespace trireme::compile
