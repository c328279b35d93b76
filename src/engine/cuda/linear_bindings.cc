// SPDX-License-Identifier: Apache-2.0
#include "engine/cuda/linear_bindings.h"

#include <algorithm>
#include <map>
#include <string>

#include "base/log.h"
#include "kernels/cuda/plan_types.h"
#include "plan/row_profiles.h"

namespace trireme::engine {
namespace {

std::string TacticFor(const plan::Launch& launch, const cuda::LinearProblem& problem,
                      int64_t rows) {
  for (const plan::TacticChoice& tactic : launch.tactics) {
    if (rows <= tactic.max_rows) return tactic.kernel;
  }
  return cuda::DefaultLinearTactic(problem, static_cast<int>(rows));
}

// Launches with one key share a kernel.
std::string Key(const cuda::LinearProblem& p, int64_t rows, const std::string& tactic) {
  return fmt::format("{}x{} {} {} {} {} {}{}{}{}{} {} {} {}", p.out_features, p.in_features,
                     static_cast<int>(p.dtype), static_cast<int>(p.weight),
                     static_cast<int>(p.x_dtype), static_cast<int>(p.y_dtype), p.has_rms_norm,
                     p.gamma_plus_one, p.has_bias, p.has_residual, p.gated,
                     static_cast<int>(p.activation), rows, tactic);
}

StatusOr<std::unique_ptr<cuda::LinearKernel>> BindOrDefault(const cuda::LinearLibrary& library,
                                                            const cuda::LinearProblem& problem,
                                                            int64_t rows, const std::string& tactic,
                                                            const std::string& name) {
  auto kernel = library.Bind(problem, static_cast<int>(rows), tactic);
  if (kernel.ok()) return kernel;
  const std::string fallback = cuda::DefaultLinearTactic(problem, static_cast<int>(rows));
  if (fallback == tactic) return kernel.status().WithContext(name);
  LogWarning("tactic_replaced launch={} rows={} tactic={} by={} reason=\"{}\"", name, rows, tactic,
             fallback, kernel.status().message());
  return library.Bind(problem, static_cast<int>(rows), fallback);
}

}  // namespace

StatusOr<std::unique_ptr<LinearBindings>> LinearBindings::Make(const plan::Plan& plan,
                                                               int64_t max_tokens,
                                                               int64_t max_logit_rows) {
  auto bindings = std::make_unique<LinearBindings>();
  TRIREME_ASSIGN_OR_RETURN(bindings->library_, cuda::LinearLibrary::Create(""));
  bindings->launches_.resize(plan.launches.size());
  std::map<std::string, std::shared_ptr<cuda::LinearKernel>> kernels;
  for (size_t i = 0; i < plan.launches.size(); ++i) {
    const plan::Launch& launch = plan.launches[i];
    if (launch.kind != OpKind::kLinear) continue;
    const plan::Buffer& out = plan.buffers[static_cast<size_t>(launch.outputs[0])];
    const plan::Buffer& in = plan.buffers[static_cast<size_t>(launch.inputs[0])];
    TRIREME_ASSIGN_OR_RETURN(
        const cuda::LinearProblem problem,
        cuda::LinearProblemOf(std::get<LinearAttrs>(launch.attrs),
                              {.dtype = plan.dtype, .x = in.dtype, .y = out.dtype},
                              plan.weights[static_cast<size_t>(launch.weights[0])].quant));
    const int64_t limit = out.rows == plan::Rows::kTokens ? max_tokens : max_logit_rows;
    for (int64_t rows = 0; rows < limit;) {
      const auto* next = std::find_if(std::begin(plan::kRowProfiles), std::end(plan::kRowProfiles),
                                      [&](int64_t profile) { return profile > rows; });
      rows = next == std::end(plan::kRowProfiles) ? limit : std::min(*next, limit);
      const std::string tactic = TacticFor(launch, problem, rows);
      std::shared_ptr<cuda::LinearKernel>& kernel = kernels[Key(problem, rows, tactic)];
      if (kernel == nullptr) {
        TRIREME_ASSIGN_OR_RETURN(
            kernel, BindOrDefault(*bindings->library_, problem, rows, tactic, launch.name));
        bindings->workspace_bytes_ =
            std::max(bindings->workspace_bytes_, kernel->workspace_bytes());
      }
      bindings->launches_[i].push_back({rows, kernel});
    }
  }
  return bindings;
}

cuda::LinearKernel& LinearBindings::Kernel(int index, int num_rows) const {
  const std::vector<ByRows>& kernels = launches_[static_cast<size_t>(index)];
  for (const ByRows& choice : kernels) {
    if (num_rows <= choice.max_rows) return *choice.kernel;
  }
  return *kernels.back().kernel;
}

}  // namespace trireme::engine
