// SPDX-License-Identifier: Apache-2.0
// KvCache: the block pool, the prefix tree and their statistics behind the few calls the executor
// makes. Ids only, never memory. Engine thread only.
#pragma once

#include <cstdint>
#include <span>

#include "kv_cache/block_pool.h"
#include "kv_cache/block_table.h"
#include "kv_cache/prefix_tree.h"
#include "trireme/executor.h"

namespace trireme::kv_cache {

struct KvCacheOptions {
  int num_blocks = 0;
  int num_reserved = 0;  // ids below this are never handed out
  int block_size = 64;   // tokens
  bool enable_reuse = false;
  // Tokens that lie this many or more before a sequence's next one are never read again; 0: all are.
  int window = 0;
};

class KvCache {
 public:
  explicit KvCache(const KvCacheOptions& options);

  // Fills the empty `table` with the blocks of the longest remembered prefix of `tokens`, leaving
  // at least one token to compute; returns how many tokens they hold.
  int MatchPrefix(const PrefixKey& key, std::span<const int32_t> tokens, BlockTable& table);
  // Lets `table` hold `num_tokens`, giving up idle blocks when none is free. All or nothing.
  bool Grow(BlockTable& table, int num_tokens);
  // Gives back the blocks that the window has left once `context_len` tokens are computed. Those of
  // a remembered prefix stay: who uses a block of the tree uses all blocks above it.
  void DropUnseen(BlockTable& table, int context_len);
  // Remembers the whole blocks of `tokens`, all of which are computed and lie in `table`; of a
  // window's first tokens only, so that what must stay is bounded. A table with dropped blocks has
  // nothing new to remember.
  void Remember(const PrefixKey& key, std::span<const int32_t> tokens, BlockTable& table,
                float priority = 0.5f);

  void BeginStep() { pool_.BeginStep(); }
  void EndStep() { pool_.EndStep(); }

  bool enable_reuse() const { return options_.enable_reuse; }
  int block_size() const { return options_.block_size; }
  int num_usable_blocks() const { return pool_.num_usable(); }
  int BlocksFor(int64_t num_tokens) const {
    return static_cast<int>((num_tokens + options_.block_size - 1) / options_.block_size);
  }
  // The most blocks the sequence of `table` holds at once until it has `num_tokens`, when a step adds
  // up to `step_tokens` of them.
  int BlocksToHold(const BlockTable& table, int num_tokens, int step_tokens) const;
  // Blocks that can be had: free ones and those only the prefix tree holds.
  int num_available_blocks() const { return pool_.num_free() + pool_.num_idle(); }
  // How many more could be had if `table` were cleared.
  int BlocksFreedBy(const BlockTable& table) const;

  KvCacheStats Stats() const;
  void CheckInvariants() const;

 private:
  const KvCacheOptions options_;
  BlockPool pool_;
  PrefixTree tree_;
  int64_t reused_blocks_ = 0;
  int64_t missed_blocks_ = 0;
};

}  // namespace trireme::kv_cache
