// SPDX-License-Identifier: Apache-2.0
#include "compile/cuda/choose_cuda_tactics.h"

#include <algorithm>
#include <map>
#include <memory>
#include <vector>

#include "base/log.h"
#include "base/status.h"
#include "base/version.h"
#include "compile/cuda/linear_timer.h"
#include "device/cuda/device_info.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/plan_types.h"
#include "plan/row_profiles.h"

namespace trireme::compile {
namespace {

std::string Signature(const cuda::LinearProblem& p) {
  return fmt::format("linear {}x{} t{} w{} x{} y{} norm{} bias{} residual{} gated{}",
                     p.out_features, p.in_features, static_cast<int>(p.dtype),
                     static_cast<int>(p.weight), static_cast<int>(p.x_dtype),
                     static_cast<int>(p.y_dtype), p.has_rms_norm, p.has_bias, p.has_residual,
                     p.gated ? 1 + static_cast<int>(p.activation) : 0);
}

class Chooser {
 public:
  Chooser(const TacticOptions& options, TimingCache& cache, std::unique_ptr<LinearTimer> timer)
      : options_(options), cache_(cache), timer_(std::move(timer)) {}

  StatusOr<plan::TacticChoice> Choose(const cuda::LinearProblem& problem, int rows) {
    plan::TacticChoice choice{.max_rows = rows, .layout = "row_major"};
    choice.kernel = cuda::DefaultLinearTactic(problem, rows);
    if (timer_ == nullptr) return choice;
    TRIREME_ASSIGN_OR_RETURN(std::vector<std::string> tactics, timer_->Tactics(problem, rows));
    std::erase_if(tactics, [&](const std::string& tactic) {
      return tactic.find(options_.force) == std::string::npos;
    });
    if (tactics.empty()) {
      return InvalidArgument("no tactic of '{}' for {} at {} rows", options_.force,
                             Signature(problem), rows);
    }
    for (const std::string& tactic : tactics) {
      TRIREME_ASSIGN_OR_RETURN(const double time_us, TimeOf(problem, rows, tactic));
      if (choice.time_us > 0 && time_us >= choice.time_us) continue;
      choice.kernel = tactic;
      choice.time_us = time_us;
    }
    return choice;
  }

 private:
  StatusOr<double> TimeOf(const cuda::LinearProblem& problem, int rows, const std::string& tactic) {
    const std::string key = fmt::format("{} | {} | {}", Signature(problem), tactic, rows);
    if (const std::optional<double> known = cache_.Find(key)) return *known;
    TRIREME_ASSIGN_OR_RETURN(const double time_us, timer_->Time(problem, rows, tactic));
    cache_.Put(key, time_us);
    return time_us;
  }

  const TacticOptions& options_;
  TimingCache& cache_;
  std::unique_ptr<LinearTimer> timer_;
};

}  // namespace

std::string CudaTimingKey() {
  const StatusOr<cuda::DeviceInfo> device = cuda::GetDeviceInfo();
  if (!device.ok()) return "cuda";
  return fmt::format("cuda {} driver={} trireme={}", device->name, device->driver_version,
                     Version());
}

Status ChooseCudaTactics(plan::Plan& plan, const TacticOptions& options, const RowLimits& limits,
                         TimingCache& cache,
                         const std::function<void(int64_t, int64_t)>& progress) {
  std::unique_ptr<LinearTimer> timer;
  if (options.time || !options.force.empty()) {
    StatusOr<std::unique_ptr<LinearTimer>> made = LinearTimer::Create();
    if (made.ok()) {
      timer = std::move(*made);
    } else if (!options.force.empty()) {
      return made.status();
    } else {
      LogInfo("tactics_not_timed reason=\"{}\"", made.status().message());
    }
  }
  Chooser chooser(options, cache, std::move(timer));
  std::map<std::string, std::vector<plan::TacticChoice>> chosen;
  int64_t done = 0;
  for (plan::Launch& launch : plan.launches) {
    if (progress) progress(++done, static_cast<int64_t>(plan.launches.size()));
    if (launch.kind != OpKind::kLinear) continue;
    const plan::Weight& weight = plan.weights[static_cast<size_t>(launch.weights[0])];
    const plan::Buffer& out = plan.buffers[static_cast<size_t>(launch.outputs[0])];
    const int64_t max_rows =
        out.rows == plan::Rows::kTokens ? limits.max_tokens : limits.max_logit_rows;
    const plan::Buffer& in = plan.buffers[static_cast<size_t>(launch.inputs[0])];
    StatusOr<cuda::LinearProblem> problem =
        cuda::LinearProblemOf(std::get<LinearAttrs>(launch.attrs),
                              {.dtype = plan.dtype, .x = in.dtype, .y = out.dtype}, weight.quant);
    if (!problem.ok()) return problem.status().WithContext(launch.name);
    const auto [entry, added] = chosen.try_emplace(Signature(*problem));
    for (const int64_t* rows = plan::kRowProfiles; added && rows != std::end(plan::kRowProfiles);
         ++rows) {
      TRIREME_ASSIGN_OR_RETURN(entry->second.emplace_back(),
                               chooser.Choose(*problem, static_cast<int>(*rows)));
      if (*rows >= max_rows) break;
    }
    launch.tactics = entry->second;
  }
  return OkStatus();
}

}  // namespace trireme::compile
