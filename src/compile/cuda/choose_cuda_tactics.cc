// SPDX-License-Identifier: Apache-2.0
#include "compile/cuda/choose_cuda_tactics.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
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

// Tactics this much slower than the fastest, timed alone, are not timed again beside it.
constexpr double kFinalistsWithin = 1.2;
constexpr size_t kMostFinalists = 6;

// A tactic timed for so many rows.
struct Timed {
  std::string tactic;
  double time_us = 0;
  std::vector<uint64_t> row_hashes;  // with --batch_invariant
};

// Whether the rows that both have are alike.
bool Agree(const std::vector<uint64_t>& a, const std::vector<uint64_t>& b) {
  const size_t count = std::min(a.size(), b.size());
  return count > 0 &&
         std::equal(a.begin(), a.begin() + static_cast<std::ptrdiff_t>(count), b.begin());
}

const Timed& Fastest(const std::vector<Timed>& tactics) {
  return *std::min_element(tactics.begin(), tactics.end(),
                           [](const Timed& a, const Timed& b) { return a.time_us < b.time_us; });
}

class Chooser {
 public:
  Chooser(const TacticOptions& options, TimingCache& cache, std::unique_ptr<LinearTimer> timer)
      : options_(options), cache_(cache), timer_(std::move(timer)) {}

  // Choices for each of `profiles`, which rise.
  StatusOr<std::vector<plan::TacticChoice>> Choose(const cuda::LinearProblem& problem,
                                                   const std::vector<int>& profiles) {
    std::vector<plan::TacticChoice> choices;
    if (timer_ == nullptr) {
      for (const int rows : profiles) {
        choices.push_back({rows, "row_major", cuda::DefaultLinearTactic(problem, rows), "", 0.0});
      }
      return choices;
    }
    std::vector<std::vector<Timed>> timed;
    for (const int rows : profiles) {
      TRIREME_ASSIGN_OR_RETURN(timed.emplace_back(), TimeAll(problem, rows));
    }
    if (options_.batch_invariant) TRIREME_RETURN_IF_ERROR(KeepAgreeing(problem, profiles, timed));
    for (size_t i = 0; i < profiles.size(); ++i) {
      const Timed& best = Fastest(timed[i]);
      choices.push_back({profiles[i], "row_major", best.tactic, "", best.time_us});
    }
    return choices;
  }

 private:
  StatusOr<std::vector<Timed>> TimeAll(const cuda::LinearProblem& problem, int rows) {
    TRIREME_ASSIGN_OR_RETURN(std::vector<std::string> tactics, timer_->Tactics(problem, rows));
    std::erase_if(tactics, [&](const std::string& tactic) {
      return tactic.find(options_.force) == std::string::npos;
    });
    if (tactics.empty()) {
      return InvalidArgument("no tactic of '{}' for {} at {} rows", options_.force,
                             Signature(problem), rows);
    }
    std::vector<Timed> timed;
    bool all_known = true;
    for (const std::string& tactic : tactics) {
      const std::optional<double> known = cache_.Find(Key(problem, rows, tactic));
      all_known = all_known && known.has_value();
      timed.push_back({tactic, known.value_or(0.0), {}});
    }
    if (!all_known) TRIREME_RETURN_IF_ERROR(TimeAfresh(problem, rows, timed));
    for (Timed& one : timed) {
      // An own kernel rounds at other places before and after the product: it agrees with none.
      if (!options_.batch_invariant || !one.tactic.starts_with("cublaslt")) continue;
      TRIREME_ASSIGN_OR_RETURN(one.row_hashes, timer_->RowHashes(problem, rows, one.tactic));
    }
    return timed;
  }

  // Each alone, then the fastest of them in turns: the clock falls while the GPU works, and must not
  // decide for whoever came first.
  Status TimeAfresh(const cuda::LinearProblem& problem, int rows, std::vector<Timed>& timed) {
    for (Timed& one : timed) {
      TRIREME_ASSIGN_OR_RETURN(one.time_us, timer_->Time(problem, rows, one.tactic));
    }
    std::sort(timed.begin(), timed.end(),
              [](const Timed& a, const Timed& b) { return a.time_us < b.time_us; });
    const double best_us = timed.front().time_us;
    std::vector<std::string> finalists;
    for (const Timed& one : timed) {
      if (finalists.size() == kMostFinalists || one.time_us > kFinalistsWithin * best_us) break;
      finalists.push_back(one.tactic);
    }
    TRIREME_ASSIGN_OR_RETURN(const std::vector<double> final_us,
                             timer_->TimeInTurns(problem, rows, finalists));
    // Those left out keep their distance.
    const double drift =
        *std::max_element(final_us.begin(), final_us.end()) / timed[finalists.size() - 1].time_us;
    for (size_t i = 0; i < timed.size(); ++i) {
      timed[i].time_us = i < final_us.size() ? final_us[i] : timed[i].time_us * drift;
      cache_.Put(Key(problem, rows, timed[i].tactic), timed[i].time_us);
    }
    return OkStatus();
  }

  static std::string Key(const cuda::LinearProblem& problem, int rows, const std::string& tactic) {
    return fmt::format("{} | {} | {}", Signature(problem), tactic, rows);
  }

  // Those of `all` that agree with `like`, a tactic for more rows; `like` itself where none does.
  StatusOr<std::vector<Timed>> Alike(const cuda::LinearProblem& problem, int rows,
                                     const std::vector<Timed>& all, const Timed& like) {
    std::vector<Timed> alike;
    std::copy_if(all.begin(), all.end(), std::back_inserter(alike),
                 [&](const Timed& one) { return Agree(one.row_hashes, like.row_hashes); });
    const bool names_an_algorithm = like.tactic.find(':') != std::string::npos;
    if (!alike.empty() || !names_an_algorithm) return alike;
    const StatusOr<std::vector<uint64_t>> hashes = timer_->RowHashes(problem, rows, like.tactic);
    // An algorithm may have a least number of rows.
    if (!hashes.ok() || !Agree(*hashes, like.row_hashes)) return alike;
    TRIREME_ASSIGN_OR_RETURN(const double time_us, timer_->Time(problem, rows, like.tactic));
    alike.push_back({like.tactic, time_us, *hashes});
    return alike;
  }

  // Of all tactics those that agree over the profiles: the group that is fastest in the geometric
  // mean. Says what that costs.
  Status KeepAgreeing(const cuda::LinearProblem& problem, const std::vector<int>& profiles,
                      std::vector<std::vector<Timed>>& timed) {
    std::vector<std::vector<Timed>> best;
    double best_score = std::numeric_limits<double>::infinity();
    for (const Timed& like : timed.back()) {
      if (like.row_hashes.empty()) continue;
      std::vector<std::vector<Timed>> group;
      double score = 0;
      for (size_t i = 0; i < profiles.size(); ++i) {
        TRIREME_ASSIGN_OR_RETURN(group.emplace_back(), Alike(problem, profiles[i], timed[i], like));
        score += group.back().empty() ? std::numeric_limits<double>::infinity()
                                      : std::log(Fastest(group.back()).time_us);
      }
      if (score >= best_score) continue;
      best_score = score;
      best = std::move(group);
    }
    if (best.empty()) {
      return Unimplemented("--batch_invariant: no tactics of {} agree over all row counts",
                           Signature(problem));
    }
    std::string cost;
    for (size_t i = 0; i < profiles.size(); ++i) {
      const double ratio = Fastest(best[i]).time_us / Fastest(timed[i]).time_us;
      cost += fmt::format(" {}:{:+.0f}%", profiles[i], 100 * (ratio - 1));
    }
    LogInfo("batch_invariant_cost layer=\"{}\" by_rows=\"{}\"", Signature(problem), cost.substr(1));
    timed = std::move(best);
    return OkStatus();
  }

  const TacticOptions& options_;
  TimingCache& cache_;
  std::unique_ptr<LinearTimer> timer_;
};

// Of the row profiles those up to the first that holds `max_rows`.
std::vector<int> ProfilesUpTo(int64_t max_rows) {
  std::vector<int> profiles;
  for (const int64_t rows : plan::kRowProfiles) {
    profiles.push_back(static_cast<int>(rows));
    if (rows >= max_rows) break;
  }
  return profiles;
}

StatusOr<std::unique_ptr<LinearTimer>> MakeTimer(const TacticOptions& options) {
  if (!options.time && options.force.empty() && !options.batch_invariant) {
    return std::unique_ptr<LinearTimer>();
  }
  StatusOr<std::unique_ptr<LinearTimer>> made = LinearTimer::Create();
  if (made.ok()) return made;
  if (options.batch_invariant) {
    return made.status().WithContext(
        "--batch_invariant compares tactics on the GPU that will run them");
  }
  if (!options.force.empty()) return made.status();
  LogInfo("tactics_not_timed reason=\"{}\"", made.status().message());
  return std::unique_ptr<LinearTimer>();
}

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
  TRIREME_ASSIGN_OR_RETURN(std::unique_ptr<LinearTimer> timer, MakeTimer(options));
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
    if (added) {
      TRIREME_ASSIGN_OR_RETURN(entry->second, chooser.Choose(*problem, ProfilesUpTo(max_rows)));
    }
    launch.tactics = entry->second;
  }
  return OkStatus();
}

}  // namespace trireme::compile
