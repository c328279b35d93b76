// SPDX-License-Identifier: Apache-2.0
#include "engine/launch_bytes.h"

#include <algorithm>

namespace trireme::engine {

int64_t LaunchBytes(const plan::Plan& plan, const plan::Launch& launch, const StepSize& step,
                    const KvLayout& kv) {
  int64_t bytes = 0;
  const bool looks_up =
      launch.kind == OpKind::kEmbedding || launch.kind == OpKind::kPositionEmbedding;
  for (int index : launch.weights) {
    const plan::Weight& weight = plan.weights[static_cast<size_t>(index)];
    const int64_t rows = std::max<int64_t>(1, weight.shape.rank() > 0 ? weight.shape[0] : 1);
    bytes += looks_up ? weight.num_bytes / rows * step.num_tokens : weight.num_bytes;
  }
  for (const std::vector<int>* buffers : {&launch.inputs, &launch.outputs}) {
    for (int index : *buffers) {
      const plan::Buffer& buffer = plan.buffers[static_cast<size_t>(index)];
      bytes += DTypeBytes(buffer.dtype, step.RowsOf(buffer.rows) * buffer.width);
    }
  }
  const int64_t kv_bytes_per_token = kv.block_bytes() / kv.block_size / std::max(1, kv.num_layers);
  if (launch.kind == OpKind::kRopeKvWrite) bytes += step.num_tokens * kv_bytes_per_token;
  if (launch.kind == OpKind::kPagedAttention) bytes += step.attended_tokens * kv_bytes_per_token;
  return bytes;
}

const plan::TacticChoice* TacticOf(const plan::Plan& plan, const plan::Launch& launch,
                                   const StepSize& step) {
  if (launch.tactics.empty() || launch.outputs.empty()) return nullptr;
  const int64_t rows = step.RowsOf(plan.buffers[static_cast<size_t>(launch.outputs.front())].rows);
  for (const plan::TacticChoice& tactic : launch.tactics) {
    if (rows <= tactic.max_rows) return &tactic;
  }
  return &launch.tactics.back();
}

}  // namespace trireme::engine
