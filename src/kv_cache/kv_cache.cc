// SPDX-License-Identifier: Apache-2.0
#include "kv_cache/kv_cache.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "tensor/kv_window.h"

namespace trireme::kv_cache {

KvCache::KvCache(const KvCacheOptions& options)
    : options_(options),
      pool_(options.num_blocks, options.num_reserved),
      tree_(pool_, options.block_size) {}

int KvCache::MatchPrefix(const PrefixKey& key, std::span<const int32_t> tokens, BlockTable& table) {
  TRIREME_CHECK_EQ(table.num_blocks(), 0);
  if (!options_.enable_reuse || tokens.empty()) return 0;
  const int max_blocks = static_cast<int>((tokens.size() - 1) / options_.block_size);
  for (BlockHandle& block : tree_.Match(key, tokens, max_blocks)) table.Append(std::move(block));
  reused_blocks_ += table.num_blocks();
  missed_blocks_ += max_blocks - table.num_blocks();
  return table.num_blocks() * options_.block_size;
}

bool KvCache::Grow(BlockTable& table, int num_tokens) {
  const int needed = BlocksFor(num_tokens) - table.num_blocks();
  if (needed <= 0) return true;
  if (const int missing = needed - pool_.num_free(); missing > 0) tree_.Evict(missing);
  if (pool_.num_free() < needed) return false;
  for (int i = 0; i < needed; ++i) table.Append(pool_.Allocate());
  return true;
}

void KvCache::DropUnseen(BlockTable& table, int context_len) {
  if (options_.window == 0) return;
  const int unseen = std::max(0, context_len - options_.window + 1) / options_.block_size;
  for (int i = std::min(unseen, table.num_blocks()) - 1; i >= 0; --i) {
    const BlockHandle& block = table.blocks()[i];
    // Before a dropped block lie dropped ones and the remembered prefix.
    if (!block.valid() || pool_.cached(block.id())) return;
    table.Drop(i);
  }
}

int KvCache::BlocksToHold(const BlockTable& table, int num_tokens, int step_tokens) const {
  const int all = BlocksFor(num_tokens) - table.num_dropped();
  if (options_.window == 0) return all;
  return static_cast<int>(
      std::min<int64_t>(all, WindowBlocks(options_.window, step_tokens, options_.block_size)));
}

void KvCache::Remember(const PrefixKey& key, std::span<const int32_t> tokens, BlockTable& table,
                       float priority) {
  if (!options_.enable_reuse || table.num_dropped() > 0) return;
  if (options_.window > 0) {
    tokens = tokens.first(std::min(tokens.size(), static_cast<size_t>(options_.window)));
  }
  const int first_swapped = tree_.Insert(key, tokens, table.mutable_blocks(), priority);
  if (first_swapped >= 0) table.MarkUnsentFrom(first_swapped);
}

int KvCache::BlocksFreedBy(const BlockTable& table) const {
  int freed = 0;
  for (const BlockHandle& block : table.blocks()) {
    if (!block.valid()) continue;
    const int other_refs = pool_.refs(block.id()) - (pool_.cached(block.id()) ? 1 : 0) - 1;
    freed += other_refs == 0;
  }
  return freed;
}

KvCacheStats KvCache::Stats() const {
  return {.max_num_blocks = pool_.num_usable(),
          .free_num_blocks = num_available_blocks(),
          .used_num_blocks = pool_.num_usable() - num_available_blocks(),
          .tokens_per_block = options_.block_size,
          .alloc_total_blocks = pool_.num_allocations(),
          .reused_blocks = reused_blocks_,
          .missed_blocks = missed_blocks_};
}

void KvCache::CheckInvariants() const {
  pool_.CheckInvariants();
  tree_.CheckInvariants();
}

}  // namespace trireme::kv_cache
