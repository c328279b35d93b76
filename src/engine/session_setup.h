// SPDX-License-Identifier: Apache-2.0
// What sessions of every device decide alike. Pure functions.
#pragma once

#include <cstdint>

#include "engine/engine_folder.h"
#include "engine/session.h"

namespace trireme::engine {

// The engine's limits, where `options` gives none.
SessionLimits ResolveLimits(const LoadedEngine& engine, const SessionOptions& options);

// Blocks of the KV pool, block 0 included, which takes the writes of padding rows and is never
// handed out: as many as the fraction of `available_bytes` holds, and no more than could be used.
StatusOr<int> NumKvBlocks(const KvCacheConfig& config, const KvLayout& layout,
                          const SessionLimits& limits, int64_t available_bytes);

// What the weights of one decode step read: everything but the embedding table, of which a token
// reads one row.
int64_t BytesReadPerStep(const plan::Plan& plan);

// The longest attention window when every layer has one, else 0: a KV block holds all layers of its
// tokens, so it is of no more use when the last of them has left it.
int KvWindow(const plan::Plan& plan);

// Slots, lengths and token ids of a step lie within the limits.
Status CheckStep(const StepInput& input, const SessionLimits& limits, int vocab_size);

inline int QueryLen(const StepRow& row) {
  return row.tokens.empty() ? 1 : static_cast<int>(row.tokens.size());
}

}  // namespace trireme::engine
