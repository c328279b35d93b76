// SPDX-License-Identifier: Apache-2.0
#include "compile/cuda/choose_cuda_tactics.h"

#include "base/status.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/plan_types.h"
#include "plan/row_profiles.h"

namespace trireme::compile {

Status ChooseCudaTactics(plan::Plan& plan, const TacticOptions& options, int64_t max_rows) {
  if (!options.force.empty()) {
    return Unimplemented("forcing tactics of the GPU does not exist yet");
  }
  for (plan::Launch& launch : plan.launches) {
    if (launch.kind != OpKind::kLinear) continue;
    const plan::Weight& weight = plan.weights[static_cast<size_t>(launch.weights[0])];
    const DType y_dtype = plan.buffers[static_cast<size_t>(launch.outputs[0])].dtype;
    StatusOr<cuda::LinearProblem> problem = cuda::LinearProblemOf(
        std::get<LinearAttrs>(launch.attrs), plan.dtype, y_dtype, weight.quant);
    if (!problem.ok()) return problem.status().WithContext(launch.name);
    launch.tactics.clear();
    for (int64_t rows : plan::kRowProfiles) {
      launch.tactics.push_back(
          {.max_rows = rows,
           .layout = weight.layout,
           .kernel = cuda::DefaultLinearTactic(*problem, static_cast<int>(rows))});
      if (rows >= max_rows) break;
    }
  }
  return OkStatus();
}

}  // namespace trireme::compile
