// SPDX-License-Identifier: Apache-2.0
// Tactics of linear layers and the loops round the micro-kernels. Engine thread only.
#include "kernels/linear.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "kernels/linear_variant.h"

namespace trireme::kernels {
namespace {

constexpr int64_t kAlignment = 64;
// Heights of tiles divide it, so that only the last tile of a chunk is lower than it could be.
constexpr int64_t kRowUnit = 12;
// Rows whose accumulators a thread holds at a time: 240 * 64 floats are 60 KB, well inside the L2.
constexpr int64_t kRowChunk = 20 * kRowUnit;
// Bytes of W that one pass over the rows of a chunk takes from the L2. Prefill is 2-4 % slower with
// 16 KB and as fast with 32 KB: the tiles are bound by arithmetic.
constexpr int64_t kRangeBytes = 64 * 1024;
// Up to this many values of x every thread converts all of them for itself: cheaper than to wait for
// another to do it and to fetch them from its cache.
constexpr int64_t kConvertedByEach = 8 * 1024;

int64_t RoundUp(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

std::vector<const LinearVariant*> AllVariants() {
  std::vector<const LinearVariant*> all;
  for (auto variants : {Avx512LinearVariants(), Avx2LinearVariants(), GenericLinearVariants()}) {
    for (const LinearVariant& variant : variants) all.push_back(&variant);
  }
  return all;
}

const LinearVariant* FindVariant(const LinearProblem& problem, const LinearTactic& tactic) {
  const bool gated = problem.gated != GatedActivation::kNone;
  for (const LinearVariant* variant : AllVariants()) {
    if (tactic.kernel == variant->name && variant->layout == WeightLayoutOf(problem) &&
        tactic.layout == LinearLayoutName(variant->layout, variant->block_n, gated)) {
      return variant;
    }
  }
  return nullptr;
}

bool IsConvertedByEach(const LinearProblem& problem, int64_t num_tokens) {
  return num_tokens == 1 || num_tokens * problem.in_features <= kConvertedByEach;
}

// x as one or each thread converts it: values, then scales and offsets of the integer forms.
struct ActivationPlan {
  int64_t row_bytes = 0;
  int64_t groups = 0;
  int64_t scales_offset = 0;
  int64_t offsets_offset = 0;
  int64_t bytes = 0;
};

ActivationPlan PlanActivation(const LinearProblem& problem, const LinearVariant& variant,
                              int64_t num_tokens) {
  ActivationPlan plan;
  if (variant.activation == ActivationFormat::kFloat32) return plan;
  const int64_t padded = RoundUp(problem.in_features, kActivationGroup);
  const int64_t value_bytes = variant.activation == ActivationFormat::kInt8 ? 1 : 2;
  // An odd number of cache lines, so that rows of a tile do not share one set of the L1.
  plan.row_bytes = RoundUp(padded * value_bytes, kAlignment);
  if (plan.row_bytes / kAlignment % 2 == 0) plan.row_bytes += kAlignment;
  plan.bytes = num_tokens * plan.row_bytes;
  if (variant.activation == ActivationFormat::kBFloat16) return plan;
  plan.groups = padded / kActivationGroup;
  plan.scales_offset = plan.bytes;
  plan.offsets_offset = plan.scales_offset + RoundUp(num_tokens * plan.groups * 4, kAlignment);
  plan.bytes = plan.offsets_offset + RoundUp(num_tokens * plan.groups * 4, kAlignment);
  return plan;
}

// The workspace: accumulators of each thread, then x, converted once or by each.
int64_t AccumulatorBytes(const LinearVariant& variant, int64_t num_tokens) {
  return std::min(num_tokens, kRowChunk) * variant.block_n * 4;
}

// Converts rows of x where the micro-kernel does not read it in place.
class ActivationConverter {
 public:
  ActivationConverter(const LinearProblem& problem, const LinearVariant& variant,
                      const LinearParams& params, int num_threads)
      : problem_(problem),
        variant_(variant),
        params_(params),
        plan_(PlanActivation(problem, variant, params.num_tokens)),
        storage_(params.workspace + AccumulatorBytes(variant, params.num_tokens) * num_threads) {}

  bool IsNeeded() const { return variant_.convert != nullptr; }

  // x for the micro-kernel, from the `copy`-th place of the workspace.
  LinearActivation View(int copy) const {
    if (!IsNeeded()) {
      return {.values = reinterpret_cast<const std::byte*>(params_.x),
              .row_bytes = params_.x_stride * static_cast<int64_t>(sizeof(float))};
    }
    const std::byte* at = storage_ + copy * plan_.bytes;
    return {.values = at,
            .row_bytes = plan_.row_bytes,
            .scales = reinterpret_cast<const float*>(at + plan_.scales_offset),
            .offsets = reinterpret_cast<const int32_t*>(at + plan_.offsets_offset),
            .groups = plan_.groups};
  }

  void Convert(int64_t row, int copy) const {
    std::byte* at = storage_ + copy * plan_.bytes;
    variant_.convert(
        {.x = params_.x + row * params_.x_stride,
         .in_features = problem_.in_features,
         .values = at + row * plan_.row_bytes,
         .scales = reinterpret_cast<float*>(at + plan_.scales_offset) + row * plan_.groups,
         .offsets = reinterpret_cast<int32_t*>(at + plan_.offsets_offset) + row * plan_.groups,
         .zero_point = variant_.layout == WeightLayout::kInt4Quads ? 8 : 128});
  }

 private:
  const LinearProblem& problem_;
  const LinearVariant& variant_;
  const LinearParams& params_;
  ActivationPlan plan_;
  std::byte* storage_;
};

// One call of a linear layer: what every block of outputs needs.
struct LinearRun {
  const LinearProblem& problem;
  const LinearVariant& variant;
  const LinearParams& params;
  LinearPacking packing;

  // `in` of one pass over a chunk of rows; all of it when one tile holds the rows.
  int64_t RangeLength(int64_t rows) const {
    const int64_t whole = packing.num_groups > 0 ? packing.padded_in : problem.in_features;
    if (rows <= variant.max_rows) return whole;
    const int64_t unit = packing.num_groups > 1 ? packing.weight_group : kActivationGroup;
    const int64_t per_input = std::max<int64_t>(1, packing.block_bytes / packing.padded_in);
    return std::max<int64_t>(1, kRangeBytes / per_input / unit) * unit;
  }

  static LinearActivation RowsFrom(const LinearActivation& x, int64_t row) {
    LinearActivation at = x;
    at.values += row * x.row_bytes;
    if (x.scales != nullptr) {
      at.scales += row * x.groups;
      at.offsets += row * x.groups;
    }
    return at;
  }

  // Rows [row, row + rows), rows <= kRowChunk, of one block of outputs.
  void RunBlock(const LinearActivation& x, int64_t block, int64_t row, int64_t rows,
                float* accumulators) const {
    const std::byte* weights = params.packed + block * packing.block_bytes;
    std::memset(accumulators, 0, static_cast<size_t>(rows * packing.block_n) * sizeof(float));
    const int64_t in = packing.num_groups > 0 ? packing.padded_in : problem.in_features;
    const int64_t range = RangeLength(rows);
    for (int64_t k = 0; k < in; k += range) {
      for (int64_t at = 0; at < rows; at += variant.max_rows) {
        const int64_t tile_rows = std::min<int64_t>(variant.max_rows, rows - at);
        variant.micro[tile_rows - 1]({.block = weights,
                                      .x = RowsFrom(x, row + at),
                                      .in_features = problem.in_features,
                                      .k_begin = k,
                                      .k_end = std::min(k + range, in),
                                      .weight_group = packing.weight_group,
                                      .one_group = packing.num_groups == 1,
                                      .accumulators = accumulators + at * packing.block_n});
      }
    }
    Finish(block, row, rows, accumulators);
  }

  void Finish(int64_t block, int64_t row, int64_t rows, const float* accumulators) const {
    const bool gated = problem.gated != GatedActivation::kNone;
    const int64_t outputs = gated ? problem.out_features / 2 : problem.out_features;
    const int64_t n = block * packing.outputs_per_block;
    LinearEpilogue epilogue{
        .accumulators = accumulators,
        .block_n = packing.block_n,
        .gated = problem.gated,
        .residual_stride = params.residual_stride,
        .y = params.y + row * params.y_stride + n,
        .y_stride = params.y_stride,
        .n_count = std::min(packing.outputs_per_block, outputs - n),
        .rows = rows,
    };
    if (packing.num_groups == 1) {
      epilogue.scales = reinterpret_cast<const float*>(params.packed + block * packing.block_bytes);
    }
    if (params.bias != nullptr) {
      epilogue.bias = params.bias + n;
      epilogue.bias_up = params.bias + outputs + n;
    }
    if (params.residual != nullptr) {
      epilogue.residual = params.residual + row * params.residual_stride + n;
    }
    variant.epilogue(epilogue);
  }
};

// How the blocks of W and the rows of x are dealt out. It changes no bits: every output is one
// thread's, whichever.
struct Schedule {
  int64_t rows_per_chunk = 0;  // whose accumulators are held at a time
  int64_t rows_per_task = 0;
  int64_t row_tasks = 1;
};

// Few rows: W is streamed from memory, a run of consecutive blocks by each thread. Many rows: a block
// is used from the caches for all of them, unless there are too few blocks to keep the threads busy.
Schedule Plan(int64_t blocks, int64_t rows, int num_threads) {
  Schedule schedule;
  const int64_t chunks = (rows + kRowChunk - 1) / kRowChunk;
  schedule.rows_per_chunk = std::min(kRowChunk, RoundUp((rows + chunks - 1) / chunks, kRowUnit));
  const bool too_few = num_threads > 1 && blocks < int64_t{4} * num_threads;
  schedule.rows_per_task = too_few ? schedule.rows_per_chunk : rows;
  schedule.row_tasks = too_few ? (rows + schedule.rows_per_chunk - 1) / schedule.rows_per_chunk : 1;
  return schedule;
}

void RunLinear(const LinearProblem& problem, const LinearVariant& variant,
               const LinearParams& params, CpuContext& context) {
  if (params.num_tokens <= 0) return;
  variant.log->Count();
  ThreadPool& pool = *context.pool;
  pool.Announce(params.next);
  const ActivationConverter converter(problem, variant, params, pool.num_threads());
  const bool by_each = converter.IsNeeded() && IsConvertedByEach(problem, params.num_tokens);
  if (converter.IsNeeded() && !by_each) {
    pool.ParallelFor(params.num_tokens, [&](int64_t row, int) { converter.Convert(row, 0); });
  }
  const LinearRun run{.problem = problem,
                      .variant = variant,
                      .params = params,
                      .packing = PackingOf(problem, variant.layout, variant.block_n)};
  const Schedule schedule = Plan(run.packing.num_blocks, params.num_tokens, pool.num_threads());
  const auto prepare = [&](int worker) {
    for (int64_t row = 0; by_each && row < params.num_tokens; ++row) converter.Convert(row, worker);
  };
  const auto run_task = [&](int64_t task, int worker) {
    const LinearActivation x = converter.View(by_each ? worker : 0);
    float* accumulators = reinterpret_cast<float*>(
        params.workspace + AccumulatorBytes(variant, params.num_tokens) * worker);
    const int64_t block = task / schedule.row_tasks;
    const int64_t first_row = task % schedule.row_tasks * schedule.rows_per_task;
    const int64_t end_row = std::min(params.num_tokens, first_row + schedule.rows_per_task);
    for (int64_t row = first_row; row < end_row; row += schedule.rows_per_chunk) {
      const int64_t rows = std::min(schedule.rows_per_chunk, end_row - row);
      run.RunBlock(x, block, row, rows, accumulators);
    }
  };
  pool.ParallelFor(run.packing.num_blocks * schedule.row_tasks, prepare, run_task);
}

bool CanRun(const LinearVariant& variant, const CpuFeatures& features) {
  return variant.log->isa() <= BestIsa(features);
}

// A float32 engine asks for accuracy: 8-bit activations are not offered to it.
bool IsAccurateEnough(const LinearVariant& variant, const LinearProblem& problem) {
  return problem.dtype != DType::kFloat32 || variant.activation != ActivationFormat::kInt8;
}

}  // namespace

std::vector<LinearTactic> AllLinearTactics(const LinearProblem& problem,
                                           const CpuFeatures& features) {
  std::vector<LinearTactic> tactics;
  if (!CheckLinearProblem(problem).ok()) return tactics;
  const bool gated = problem.gated != GatedActivation::kNone;
  for (const LinearVariant* variant : AllVariants()) {
    if (variant->layout != WeightLayoutOf(problem) || !CanRun(*variant, features)) continue;
    if (!IsAccurateEnough(*variant, problem)) continue;
    tactics.push_back({.layout = LinearLayoutName(variant->layout, variant->block_n, gated),
                       .kernel = variant->name,
                       .numerics = variant->numerics});
  }
  return tactics;
}

std::vector<LinearTactic> LinearTactics(const LinearProblem& problem, const CpuFeatures& features) {
  std::vector<LinearTactic> tactics = AllLinearTactics(problem, features);
  // A lesser instruction set's kernels are never the faster ones: timing them would only take
  // time, the generic ones' most of all.
  std::erase_if(tactics, [&](const LinearTactic& tactic) {
    return FindVariant(problem, tactic)->log->isa() != BestIsa(features);
  });
  return tactics;
}

std::vector<std::string> LinearVariantNames() {
  std::vector<std::string> names;
  for (const LinearVariant* variant : AllVariants()) names.emplace_back(variant->name);
  return names;
}

int64_t LinearWorkspaceBytes(const LinearProblem& problem, const LinearTactic& tactic,
                             int64_t max_tokens, int num_threads) {
  const LinearVariant* variant = FindVariant(problem, tactic);
  if (variant == nullptr) return 0;
  const int64_t by_each =
      std::min(max_tokens, std::max<int64_t>(1, kConvertedByEach / problem.in_features));
  return AccumulatorBytes(*variant, max_tokens) * num_threads +
         std::max(PlanActivation(problem, *variant, max_tokens).bytes,
                  PlanActivation(problem, *variant, by_each).bytes * num_threads);
}

StatusOr<ThreadPool::Upcoming> LinearReads(const LinearProblem& problem, const std::string& layout,
                                           const std::byte* packed) {
  TRIREME_ASSIGN_OR_RETURN(const LinearPacking packing, FindPacking(problem, layout));
  return ThreadPool::Upcoming{packed, packing.num_blocks, packing.block_bytes};
}

StatusOr<LinearKernel> LinearKernel::Create(const LinearProblem& problem,
                                            const LinearTactic& tactic) {
  TRIREME_RETURN_IF_ERROR(CheckLinearProblem(problem));
  const LinearVariant* variant = FindVariant(problem, tactic);
  if (variant == nullptr) {
    return InvalidArgument(
        "no linear kernel '{}' reads layout '{}' of this layer; rebuild the "
        "engine with this version",
        tactic.kernel, tactic.layout);
  }
  if (!CanRun(*variant, HostCpuFeatures())) {
    return FailedPrecondition(
        "linear kernel '{}' needs {}, which this processor lacks; rebuild the "
        "engine on this machine",
        tactic.kernel, IsaName(variant->log->isa()));
  }
  LinearKernel kernel;
  kernel.problem_ = problem;
  kernel.variant_ = variant;
  return kernel;
}

void LinearKernel::Run(const LinearParams& params, CpuContext& context) const {
  RunLinear(problem_, *variant_, params, context);
}

}  // namespace trireme::kernels
