// SPDX-License-Identifier: Apache-2.0
// The three steps of a mixture of experts: route each token to a few experts, run linear layers of
// the chosen experts, join their results. Engine thread only.
//
//   RouteExperts    p = softmax(logits); the top_k largest p, equal ones by lower id;
//                   weights p, or p over the sum of the chosen ones with `normalize`
//   ExpertLinear    y[t, i] = linear layer of expert id(t, i) on x[t] or x[t, i]
//   CombineExperts  y[t] = sum_i weight(t, i) * x[t, i], in order of i
//
// | operand | dtype   | shape                       | notes                                       |
// |---------|---------|-----------------------------|---------------------------------------------|
// | logits  | float32 | [num_tokens, num_experts]   |                                             |
// | routing | float32 | [num_tokens, 2 * top_k]     | ids of the chosen experts, then weights     |
// | x, y    | float32 | [num_tokens, top_k, size]   | strides of tokens and of choices; y is no x |
//
// Ids are exact in float32 and always in [0, num_experts), whatever the logits hold. ExpertLinear
// gathers the tokens of each expert, so that a prefill reads every expert's weights once per
// kRowsPerRun tokens; a row's bits depend on its own input and expert alone (linear.h). Bound by
// memory at few tokens (top_k experts of a decode step are read), by arithmetic at many.
#pragma once

#include <cstdint>
#include <span>
#include <utility>

#include "kernels/cpu_context.h"
#include "kernels/linear.h"

namespace trireme::kernels {

struct RouteExpertsParams {
  const float* logits = nullptr;
  int64_t logits_stride = 0;
  float* routing = nullptr;
  int64_t routing_stride = 0;
  int64_t num_tokens = 0;
  int num_experts = 0;
  int top_k = 0;  // at most num_experts
  bool normalize = false;
};

// The kernels of one linear problem by rising row count; the last one also takes longer runs.
using LinearKernelsByRows = std::span<const std::pair<int64_t, LinearKernel>>;
const LinearKernel& KernelForRows(LinearKernelsByRows kernels, int64_t rows);

struct ExpertLinearParams {
  const float* x = nullptr;
  int64_t x_stride = 0;
  int64_t x_choice_stride = 0;  // 0: the choices of a token share its row
  const float* routing = nullptr;
  int64_t routing_stride = 0;
  std::span<const std::byte* const> packed;  // of each expert
  float* y = nullptr;
  int64_t y_stride = 0;
  int64_t y_choice_stride = 0;
  int64_t num_tokens = 0;
  int top_k = 0;
  std::byte* workspace = nullptr;  // ExpertLinearWorkspaceBytes, 64-byte aligned
};

struct CombineExpertsParams {
  const float* x = nullptr;
  int64_t x_stride = 0;
  int64_t x_choice_stride = 0;
  const float* routing = nullptr;
  int64_t routing_stride = 0;
  float* y = nullptr;
  int64_t y_stride = 0;
  int64_t num_tokens = 0;
  int top_k = 0;
  int64_t size = 0;
};

// Rows that one run of a linear kernel takes: enough to pay for reading the weights, few enough for
// the gathered rows to stay in cache and memory.
inline constexpr int64_t kExpertRowsPerRun = 256;

// `linear_bytes`: LinearWorkspaceBytes of the problem's tactics for kExpertRowsPerRun tokens.
int64_t ExpertLinearWorkspaceBytes(const LinearProblem& problem, int num_experts, int top_k,
                                   int64_t max_tokens, int64_t linear_bytes);

void RouteExperts(const RouteExpertsParams& params, CpuContext& context);
void ExpertLinear(const ExpertLinearParams& params, LinearKernelsByRows kernels,
                  CpuContext& context);
void CombineExperts(const CombineExpertsParams& params, CpuContext& context);

void RouteExpertsReference(const RouteExpertsParams& params);
void CombineExpertsReference(const CombineExpertsParams& params);

}  // namespace trireme::kernels
