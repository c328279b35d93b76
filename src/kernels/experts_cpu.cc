// SPDX-License-Identifier: Apache-2.0
// Dispatch of the mixture-of-experts kernels; ExpertLinear is the linear kernels over gathered rows.
#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "kernels/cpu_variants.h"
#include "kernels/experts_vector.h"
#include "kernels/parallel_rows.h"

namespace trireme::kernels {
namespace {

VariantsByIsa g_combine_experts TRIREME_VARIANTS_BY_ISA("combine_experts");

int64_t Aligned(int64_t bytes) { return (bytes + 63) / 64 * 64; }

int64_t OutputWidth(const LinearProblem& problem) {
  return problem.gated == GatedActivation::kNone ? problem.out_features : problem.out_features / 2;
}

// Where things lie in the workspace.
struct Workspace {
  int32_t* first = nullptr;  // [num_experts + 1] begin of each expert's rows in `rows`
  int32_t* rows = nullptr;   // [num_tokens * top_k] token * top_k + choice, sorted by expert
  float* x = nullptr;        // gathered inputs of one run
  float* y = nullptr;        // its outputs
  std::byte* linear = nullptr;

  static int64_t HeadBytes(int64_t num_experts, int64_t num_rows) {
    return Aligned((num_experts + 1) * 4) + Aligned(num_rows * 4);
  }
  static int64_t XBytes(const LinearProblem& problem) {
    return Aligned(kExpertRowsPerRun * problem.in_features * 4);
  }
  static int64_t YBytes(const LinearProblem& problem) {
    return Aligned(kExpertRowsPerRun * OutputWidth(problem) * 4);
  }
};

Workspace Divide(const ExpertLinearParams& p, const LinearProblem& problem) {
  const auto num_experts = static_cast<int64_t>(p.packed.size());
  Workspace w;
  w.first = reinterpret_cast<int32_t*>(p.workspace);
  w.rows = reinterpret_cast<int32_t*>(p.workspace + Aligned((num_experts + 1) * 4));
  std::byte* rest = p.workspace + Workspace::HeadBytes(num_experts, p.num_tokens * p.top_k);
  w.x = reinterpret_cast<float*>(rest);
  w.y = reinterpret_cast<float*>(rest + Workspace::XBytes(problem));
  w.linear = rest + Workspace::XBytes(problem) + Workspace::YBytes(problem);
  return w;
}

// A stable counting sort of the (token, choice) rows by expert.
void SortByExpert(const ExpertLinearParams& p, const Workspace& w) {
  const auto num_experts = static_cast<int64_t>(p.packed.size());
  const auto expert_of = [&](int64_t row) {
    return static_cast<int64_t>(p.routing[row / p.top_k * p.routing_stride + row % p.top_k]);
  };
  const int64_t num_rows = p.num_tokens * p.top_k;
  std::fill_n(w.first, num_experts + 1, 0);
  for (int64_t row = 0; row < num_rows; ++row) ++w.first[expert_of(row) + 1];
  for (int64_t e = 0; e < num_experts; ++e) w.first[e + 1] += w.first[e];
  for (int64_t row = 0; row < num_rows; ++row) {
    w.rows[w.first[expert_of(row)]++] = static_cast<int32_t>(row);
  }
  // Each begin has become the next one's.
  for (int64_t e = num_experts; e > 0; --e) w.first[e] = w.first[e - 1];
  w.first[0] = 0;
}

const float* InputOf(const ExpertLinearParams& p, int64_t row) {
  return p.x + row / p.top_k * p.x_stride + row % p.top_k * p.x_choice_stride;
}

float* OutputOf(const ExpertLinearParams& p, int64_t row) {
  return p.y + row / p.top_k * p.y_stride + row % p.top_k * p.y_choice_stride;
}

// One expert's layer on `rows`, which are not contiguous.
void RunGathered(const ExpertLinearParams& p, std::span<const int32_t> rows,
                 const std::byte* packed, LinearKernelsByRows kernels, const Workspace& w,
                 CpuContext& context) {
  const auto count = static_cast<int64_t>(rows.size());
  const LinearKernel& kernel = KernelForRows(kernels, count);
  const int64_t in = kernel.problem().in_features;
  const int64_t out = OutputWidth(kernel.problem());
  LinearParams linear{.x = w.x,
                      .x_stride = in,
                      .packed = packed,
                      .y = w.y,
                      .y_stride = out,
                      .num_tokens = count,
                      .workspace = w.linear};
  if (count == 1) {
    linear.x = InputOf(p, rows[0]);
    linear.y = OutputOf(p, rows[0]);
    return kernel.Run(linear, context);
  }
  ParallelRows(context, count, in, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      std::memcpy(w.x + r * in, InputOf(p, rows[r]), static_cast<size_t>(in) * sizeof(float));
    }
  });
  kernel.Run(linear, context);
  ParallelRows(context, count, out, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      std::memcpy(OutputOf(p, rows[r]), w.y + r * out, static_cast<size_t>(out) * sizeof(float));
    }
  });
}

CombineExpertsFn CombineFor(Isa isa) {
  switch (isa) {
    case Isa::kAvx512: return kAvx512CombineExperts;
    case Isa::kAvx2: return kAvx2CombineExperts;
    default: return CombineExpertsReference;
  }
}

}  // namespace

const LinearKernel& KernelForRows(LinearKernelsByRows kernels, int64_t rows) {
  for (const auto& [max_rows, kernel] : kernels) {
    if (rows <= max_rows) return kernel;
  }
  return kernels.back().second;
}

int64_t ExpertLinearWorkspaceBytes(const LinearProblem& problem, int num_experts, int top_k,
                                   int64_t max_tokens, int64_t linear_bytes) {
  return Workspace::HeadBytes(num_experts, max_tokens * top_k) + Workspace::XBytes(problem) +
         Workspace::YBytes(problem) + linear_bytes;
}

void RouteExperts(const RouteExpertsParams& params, CpuContext& context) {
  TRIREME_CHECK(params.top_k >= 1 && params.top_k <= params.num_experts);
  const int64_t cost = int64_t{params.num_experts} * (params.top_k + 8);
  ParallelRows(context, params.num_tokens, cost, [&](int64_t begin, int64_t end) {
    RouteExpertsParams part = params;
    part.logits += begin * params.logits_stride;
    part.routing += begin * params.routing_stride;
    part.num_tokens = end - begin;
    RouteExpertsReference(part);
  });
}

void ExpertLinear(const ExpertLinearParams& params, LinearKernelsByRows kernels,
                  CpuContext& context) {
  if (params.num_tokens == 0) return;
  const Workspace w = Divide(params, kernels.front().second.problem());
  SortByExpert(params, w);
  for (size_t expert = 0; expert < params.packed.size(); ++expert) {
    for (int64_t begin = w.first[expert]; begin < w.first[expert + 1]; begin += kExpertRowsPerRun) {
      const int64_t end = std::min<int64_t>(begin + kExpertRowsPerRun, w.first[expert + 1]);
      RunGathered(params, {w.rows + begin, static_cast<size_t>(end - begin)}, params.packed[expert],
                  kernels, w, context);
    }
  }
}

void CombineExperts(const CombineExpertsParams& params, CpuContext& context) {
  g_combine_experts.Count(context.isa);
  ParallelRows(context, params.num_tokens, params.top_k * params.size,
               [&](int64_t begin, int64_t end) {
                 CombineExpertsParams part = params;
                 part.x += begin * params.x_stride;
                 part.routing += begin * params.routing_stride;
                 part.y += begin * params.y_stride;
                 part.num_tokens = end - begin;
                 CombineFor(context.isa)(part);
               });
}

}  // namespace trireme::kernels
