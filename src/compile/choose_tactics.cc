// SPDX-License-Identifier: Apache-2.0
#include "compile/choose_tactics.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <map>
#include <memory>
#include <random>

#include "base/aligned_buffer.h"
#include "base/status.h"
#include "compile/lower.h"
#include "kernels/linear.h"

namespace trireme::compile {
namespace {

using kernels::LinearKernel;
using kernels::LinearParams;
using kernels::LinearProblem;
using kernels::LinearTactic;

// Row counts that are timed; each choice serves up to the next one.
constexpr int64_t kProfileRows[] = {1, 8, 128};

// Weights are rotated through at least this much memory, so that a decode-sized run reads them from
// memory as a real step does and not from a cache.
constexpr int64_t kRotationBytes = 64 << 20;

// Timed weights are cut to this many bytes of float values: time grows with the rows of a weight
// and nothing else about them matters.
constexpr int64_t kTimedElements = 8 << 20;

// One timed run is given about this long.
constexpr double kBudgetMs = 4.0;

// The problem that is timed in place of `problem`, and how many times longer the whole one takes.
struct TimedProblem {
  LinearProblem problem;
  double factor = 1.0;
};
TimedProblem Shortened(const LinearProblem& problem) {
  TimedProblem timed{problem};
  // Whole tiles of every layout, an even number of branches.
  constexpr int64_t kRowMultiple = 512;
  const int64_t rows =
      std::max<int64_t>(1, kTimedElements / problem.in_features / kRowMultiple) * kRowMultiple;
  if (rows < problem.out_features) {
    timed.problem.out_features = rows;
    timed.factor = static_cast<double>(problem.out_features) / static_cast<double>(rows);
  }
  return timed;
}

// SplitMix64 (Steele, Lea, Flood 2014): random operands at the speed of memory.
uint64_t NextRandom(uint64_t& state) {
  uint64_t z = (state += 0x9e3779b97f4a7c15ull);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  return z ^ (z >> 31);
}

std::string Signature(const LinearProblem& problem) {
  return fmt::format("linear {}x{} {} q{} g{} a{}", problem.out_features, problem.in_features,
                     DTypeName(problem.dtype), static_cast<int>(problem.quant.kind),
                     problem.quant.group_size, static_cast<int>(problem.gated));
}

std::string Key(const LinearProblem& problem, const LinearTactic& tactic, int64_t rows) {
  return fmt::format("{} | {} {} | {}", Signature(problem), tactic.layout, tactic.kernel, rows);
}

// Random operands of one problem in one layout, repeated to kRotationBytes.
class TimingData {
 public:
  static StatusOr<std::unique_ptr<TimingData>> Make(const LinearProblem& problem,
                                                    const std::string& layout) {
    auto data = std::make_unique<TimingData>();
    TRIREME_ASSIGN_OR_RETURN(data->packed_bytes_, kernels::PackedLinearBytes(problem, layout));
    data->stride_ = (data->packed_bytes_ + 63) / 64 * 64;
    data->copies_ = std::clamp<int64_t>(kRotationBytes / data->stride_, 1, 64);
    data->packed_ = AlignedBuffer(data->stride_ * data->copies_);
    TRIREME_RETURN_IF_ERROR(data->Pack(problem, layout));
    return data;
  }

  const std::byte* packed(int64_t turn) const {
    return packed_.data() + (turn % copies_) * stride_;
  }

 private:
  Status Pack(const LinearProblem& problem, const std::string& layout) {
    const int64_t count = problem.out_features * problem.in_features;
    const bool quantized = problem.quant.kind != WeightQuant::Kind::kNone;
    const DType dtype = problem.quant.kind == WeightQuant::Kind::kInt8   ? DType::kInt8
                        : problem.quant.kind == WeightQuant::Kind::kInt4 ? DType::kInt4
                                                                         : DType::kBFloat16;
    HostTensor weight(dtype, {problem.out_features, problem.in_features});
    uint64_t random = 1;
    if (quantized) {
      for (std::byte& b : weight.bytes()) b = static_cast<std::byte>(NextRandom(random));
    } else {
      // bfloat16 patterns of magnitude about 2^-6 with random sign and mantissa.
      auto* values = weight.as<uint16_t>();
      for (int64_t i = 0; i < count; ++i) {
        values[i] = static_cast<uint16_t>(0x3c80u | (NextRandom(random) & 0x807fu));
      }
    }
    const int64_t groups =
        problem.quant.group_size == 0
            ? 1
            : (problem.in_features + problem.quant.group_size - 1) / problem.quant.group_size;
    HostTensor scales(DType::kFloat32, problem.quant.group_size == 0
                                           ? Shape{problem.out_features}
                                           : Shape{problem.out_features, groups});
    std::fill_n(scales.as<float>(), problem.out_features * groups, 0.001f);
    const TensorView scale_view = scales.view();
    TRIREME_RETURN_IF_ERROR(
        kernels::PackLinear(problem, layout, weight.view(), quantized ? &scale_view : nullptr,
                            {packed_.data(), static_cast<size_t>(packed_bytes_)}));
    for (int64_t copy = 1; copy < copies_; ++copy) {
      std::copy_n(packed_.data(), packed_bytes_, packed_.data() + copy * stride_);
    }
    return OkStatus();
  }

  int64_t packed_bytes_ = 0;
  int64_t stride_ = 0;
  int64_t copies_ = 0;
  AlignedBuffer packed_;
};

// Median microseconds of one run of `kernel` at `rows` rows.
double TimeKernel(const LinearKernel& kernel, const LinearTactic& tactic, int64_t rows,
                  const TimingData& data, kernels::CpuContext& context) {
  const LinearProblem& problem = kernel.problem();
  const int64_t out = problem.gated == kernels::GatedActivation::kNone ? problem.out_features
                                                                       : problem.out_features / 2;
  AlignedBuffer x(rows * problem.in_features * static_cast<int64_t>(sizeof(float)));
  AlignedBuffer y(rows * out * static_cast<int64_t>(sizeof(float)));
  AlignedBuffer workspace(
      kernels::LinearWorkspaceBytes(problem, tactic, rows, context.pool->num_threads()));
  auto* values = reinterpret_cast<float*>(x.data());
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  for (int64_t i = 0; i < rows * problem.in_features; ++i) values[i] = normal(random);

  LinearParams params;
  params.x = values;
  params.x_stride = problem.in_features;
  params.y = reinterpret_cast<float*>(y.data());
  params.y_stride = out;
  params.num_tokens = rows;
  params.workspace = workspace.data();
  std::vector<double> times_us;
  double spent_ms = 0;
  for (int64_t turn = 0; turn < 3 || (turn < 200 && spent_ms < kBudgetMs); ++turn) {
    params.packed = data.packed(turn);
    const auto begin = std::chrono::steady_clock::now();
    kernel.Run(params, context);
    const std::chrono::duration<double, std::micro> time = std::chrono::steady_clock::now() - begin;
    spent_ms += time.count() * 1e-3;
    if (turn > 0) times_us.push_back(time.count());  // the first run warms up
    if (turn >= 1 && spent_ms > 20 * kBudgetMs) break;
  }
  std::nth_element(times_us.begin(), times_us.begin() + times_us.size() / 2, times_us.end());
  return times_us[times_us.size() / 2];
}

// Times of every tactic of one problem, by tactic and profile.
StatusOr<std::vector<std::vector<double>>> TimeTactics(const LinearProblem& problem,
                                                       const std::vector<LinearTactic>& tactics,
                                                       kernels::CpuContext& context,
                                                       TimingCache& cache) {
  std::vector<std::vector<double>> times(tactics.size());
  std::map<std::string, std::unique_ptr<TimingData>> data;
  const TimedProblem timed = Shortened(problem);
  for (size_t i = 0; i < tactics.size(); ++i) {
    for (int64_t rows : kProfileRows) {
      const std::string key = Key(problem, tactics[i], rows);
      std::optional<double> time = cache.Find(key);
      if (!time) {
        std::unique_ptr<TimingData>& layout_data = data[tactics[i].layout];
        if (layout_data == nullptr) {
          TRIREME_ASSIGN_OR_RETURN(layout_data, TimingData::Make(timed.problem, tactics[i].layout));
        }
        TRIREME_ASSIGN_OR_RETURN(const LinearKernel kernel,
                                 LinearKernel::Create(timed.problem, tactics[i]));
        time = timed.factor * TimeKernel(kernel, tactics[i], rows, *layout_data, context);
        cache.Put(key, *time);
      }
      times[i].push_back(*time);
    }
  }
  return times;
}

// Tactics that share layout and numerics can serve different row counts of one weight. Returns the
// choice of the group with the least geometric mean of times over the profiles.
std::vector<plan::TacticChoice> BestGroup(const std::vector<LinearTactic>& tactics,
                                          const std::vector<std::vector<double>>& times) {
  std::map<std::pair<std::string, std::string>, std::vector<size_t>> groups;
  for (size_t i = 0; i < tactics.size(); ++i) {
    groups[{tactics[i].layout, tactics[i].numerics}].push_back(i);
  }
  std::vector<plan::TacticChoice> best;
  double best_score = std::numeric_limits<double>::infinity();
  for (const auto& [key, members] : groups) {
    std::vector<plan::TacticChoice> choices;
    double score = 0;
    for (size_t profile = 0; profile < std::size(kProfileRows); ++profile) {
      const size_t winner = *std::min_element(
          members.begin(), members.end(),
          [&](size_t a, size_t b) { return times[a][profile] < times[b][profile]; });
      score += std::log(times[winner][profile]);
      choices.push_back({kProfileRows[profile], tactics[winner].layout, tactics[winner].kernel,
                         tactics[winner].numerics, times[winner][profile]});
    }
    if (score < best_score) {
      best_score = score;
      best = std::move(choices);
    }
  }
  return best;
}

// `texts`: "a,b,c".
bool HoldsOneOf(std::string_view texts, std::string_view name) {
  for (size_t begin = 0; begin <= texts.size();) {
    const size_t end = std::min(texts.find(',', begin), texts.size());
    if (name.find(texts.substr(begin, end - begin)) != std::string_view::npos) return true;
    begin = end + 1;
  }
  return false;
}

StatusOr<std::vector<plan::TacticChoice>> Choose(const LinearProblem& problem,
                                                 const TacticOptions& options,
                                                 kernels::CpuContext& context, TimingCache& cache) {
  std::vector<LinearTactic> tactics = kernels::LinearTactics(problem, HostCpuFeatures());
  if (!options.force.empty()) {
    tactics = kernels::AllLinearTactics(problem, HostCpuFeatures());
    std::erase_if(tactics, [&](const LinearTactic& tactic) {
      return !HoldsOneOf(options.force, tactic.layout + " " + tactic.kernel);
    });
  }
  if (tactics.empty() && !options.force.empty()) {
    return InvalidArgument("no tactic called '{}' computes {}", options.force, Signature(problem));
  }
  if (tactics.empty()) return LinearKernel::Create(problem, {}).status();
  if (!options.time) {
    const LinearTactic& first = tactics.front();
    return std::vector<plan::TacticChoice>{
        {kProfileRows[0], first.layout, first.kernel, first.numerics, 0.0}};
  }
  TRIREME_ASSIGN_OR_RETURN(const auto times, TimeTactics(problem, tactics, context, cache));
  return BestGroup(tactics, times);
}

}  // namespace

Status ChooseTactics(plan::Plan& plan, const TacticOptions& options, kernels::CpuContext& context,
                     TimingCache& cache, const std::function<void(int64_t, int64_t)>& progress) {
  std::map<std::string, std::vector<plan::TacticChoice>> chosen;
  std::vector<plan::Launch*> linears;
  for (plan::Launch& launch : plan.launches) {
    if (launch.kind == OpKind::kLinear || launch.kind == OpKind::kExpertLinear) {
      linears.push_back(&launch);
    }
  }
  int64_t done = 0;
  for (plan::Launch* launch : linears) {
    const LinearProblem problem = ProblemOf(plan, *launch);
    const std::string signature = Signature(problem);
    if (!chosen.contains(signature)) {
      StatusOr<std::vector<plan::TacticChoice>> choice = Choose(problem, options, context, cache);
      if (!choice.ok()) return choice.status().WithContext("layer '" + launch->name + "'");
      chosen[signature] = *std::move(choice);
    }
    launch->tactics = chosen[signature];
    const std::string& layout = launch->tactics.front().layout;
    TRIREME_ASSIGN_OR_RETURN(const int64_t bytes, kernels::PackedLinearBytes(problem, layout));
    const size_t num_packed = launch->kind == OpKind::kLinear ? 1 : launch->weights.size();
    for (size_t i = 0; i < num_packed; ++i) {
      plan::Weight& weight = plan.weights[launch->weights[i]];
      weight.layout = layout;
      weight.num_bytes = bytes;
    }
    if (progress) progress(++done, static_cast<int64_t>(linears.size()));
  }
  return OkStatus();
}

}  // namespace trireme::compile
