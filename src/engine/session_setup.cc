// SPDX-License-Identifier: Apache-2.0
#include "engine/session_setup.h"

#include <algorithm>

#include "base/status.h"
#include "formats/model_facts.h"

namespace trireme::engine {
namespace {

int Override(int given, int fallback) { return given > 0 ? given : fallback; }

Status CheckRow(const StepRow& row, const SessionLimits& limits, int vocab_size) {
  if (row.slot < 0 || row.slot >= limits.max_batch_size) {
    return Internal("step: slot {} of {}", row.slot, limits.max_batch_size);
  }
  const int end = row.context_len + QueryLen(row);
  if (row.context_len < 0 || end > limits.max_seq_len) {
    return Internal("step: slot {} would reach {} tokens, at most {} fit", row.slot, end,
                    limits.max_seq_len);
  }
  for (TokenId token : row.tokens) {
    if (token < 0 || token >= vocab_size) {
      return Internal("step: token {} is not in a vocabulary of {}", token, vocab_size);
    }
  }
  return OkStatus();
}

}  // namespace

SessionLimits ResolveLimits(const LoadedEngine& engine, const SessionOptions& options) {
  const int max_seq_len = Override(options.limits.max_seq_len, engine.max_seq_len);
  WarnBeyondPositions(engine.model, max_seq_len);
  return {.max_batch_size = Override(options.limits.max_batch_size, engine.max_batch_size),
          .max_num_tokens = Override(options.limits.max_num_tokens, engine.max_num_tokens),
          .max_seq_len = max_seq_len};
}

StatusOr<int> NumKvBlocks(const KvCacheConfig& config, const KvLayout& layout,
                          const SessionLimits& limits, int64_t available_bytes) {
  const double fraction = config.free_memory_fraction;
  if (!(fraction > 0.0 && fraction < 1.0)) {
    return InvalidArgument(
        "kv_cache_free_gpu_mem_fraction is {}; it must lie strictly between 0 and 1, because what "
        "runs beside the cache needs memory too",
        fraction);
  }
  const auto blocks_for = [&](int64_t tokens) {
    return (tokens + layout.block_size - 1) / layout.block_size;
  };
  int64_t blocks = int64_t{limits.max_batch_size} * blocks_for(limits.max_seq_len);
  blocks = std::min(blocks, static_cast<int64_t>(fraction * static_cast<double>(available_bytes) /
                                                 static_cast<double>(layout.block_bytes())));
  if (config.max_tokens > 0) blocks = std::min(blocks, blocks_for(config.max_tokens));
  if (blocks < 1) {
    return ResourceExhausted(
        "no memory for the KV cache: one block takes {} bytes, {} bytes are free and fraction {} "
        "of them may be used",
        layout.block_bytes(), available_bytes, fraction);
  }
  return static_cast<int>(std::min<int64_t>(blocks, (int64_t{1} << 31) - 2) + 1);
}

int64_t BytesReadPerStep(const plan::Plan& plan) {
  int64_t bytes = 0;
  for (const plan::Launch& launch : plan.launches) {
    if (launch.kind == OpKind::kEmbedding || launch.kind == OpKind::kPositionEmbedding) continue;
    int64_t launch_bytes = 0;
    for (int weight : launch.weights) {
      launch_bytes += plan.weights[static_cast<size_t>(weight)].num_bytes;
    }
    // One token reads its chosen experts, which are all of one size.
    if (const auto* experts = std::get_if<ExpertLinearAttrs>(&launch.attrs)) {
      launch_bytes = launch_bytes / experts->num_experts * experts->top_k;
    }
    bytes += launch_bytes;
  }
  return bytes;
}

int KvWindow(const plan::Plan& plan) {
  int longest = 0;
  for (const plan::Launch& launch : plan.launches) {
    if (launch.kind != OpKind::kPagedAttention) continue;
    const int window = std::get<AttentionAttrs>(launch.attrs).spec.window;
    if (window == 0) return 0;
    longest = std::max(longest, window);
  }
  return longest;
}

Status CheckStep(const StepInput& input, const SessionLimits& limits, int vocab_size) {
  if (input.rows.size() > static_cast<size_t>(limits.max_batch_size)) {
    return Internal("step: {} rows for {} slots", input.rows.size(), limits.max_batch_size);
  }
  int64_t num_tokens = 0;
  for (const StepRow& row : input.rows) {
    TRIREME_RETURN_IF_ERROR(CheckRow(row, limits, vocab_size));
    num_tokens += QueryLen(row);
  }
  if (num_tokens > limits.max_num_tokens) {
    return Internal("step: {} tokens, at most {} fit", num_tokens, limits.max_num_tokens);
  }
  return OkStatus();
}

}  // namespace trireme::engine
