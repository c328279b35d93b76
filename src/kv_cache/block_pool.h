// SPDX-License-Identifier: Apache-2.0
// BlockPool: which KV blocks are free, held, remembered or in quarantine. Ids only, never memory.
// Engine thread only.
//
// A block is held through move-only handles; it is free again when the last one is gone. Steps run
// asynchronously, so a block released while a step is in flight may still be read by it: such a
// block is kept in quarantine until the newest step begun before the release has ended.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace trireme::kv_cache {

using BlockId = int32_t;

class BlockPool;

// One reference to one block. Empty after a move.
class BlockHandle {
 public:
  BlockHandle() = default;
  BlockHandle(BlockHandle&& other) noexcept
      : pool_(std::exchange(other.pool_, nullptr)), id_(std::exchange(other.id_, -1)) {}
  BlockHandle& operator=(BlockHandle&& other) noexcept {
    if (this != &other) {
      Reset();
      pool_ = std::exchange(other.pool_, nullptr);
      id_ = std::exchange(other.id_, -1);
    }
    return *this;
  }
  ~BlockHandle() { Reset(); }

  bool valid() const { return pool_ != nullptr; }
  BlockId id() const { return id_; }
  // One more reference to the same block.
  BlockHandle Share() const;
  // Gives the reference back.
  void Reset();

 private:
  friend class BlockPool;
  BlockHandle(BlockPool* pool, BlockId id) : pool_(pool), id_(id) {}

  BlockPool* pool_ = nullptr;
  BlockId id_ = -1;
};

class BlockPool {
 public:
  // Ids [num_reserved, num_blocks) are handed out; the ids below belong to the session (a null
  // block that padding rows write to).
  explicit BlockPool(int num_blocks, int num_reserved = 0);
  // Every handle must be gone.
  ~BlockPool();
  BlockPool(const BlockPool&) = delete;
  BlockPool& operator=(const BlockPool&) = delete;

  // An empty handle when no block is free.
  BlockHandle Allocate();

  // A step that may name any block held now begins; the oldest step in flight ends.
  void BeginStep() { ++steps_begun_; }
  void EndStep();

  // Tells that one reference to `id` belongs to the prefix tree, so that a block only the tree
  // holds counts as idle.
  void SetCached(BlockId id, bool cached);
  // Gives back the tree's reference to an idle block, which no step has come to name since the
  // block's last release.
  void ReturnIdle(BlockHandle handle);

  int refs(BlockId id) const { return blocks_[id].refs; }
  bool cached(BlockId id) const { return blocks_[id].cached; }
  // Whether a step in flight may name the block although a holder released it.
  bool busy(BlockId id) const { return blocks_[id].busy_until > steps_ended_; }

  int num_usable() const { return static_cast<int>(blocks_.size()) - num_reserved_; }
  int num_free() const { return static_cast<int>(free_.size()); }
  int num_quarantined() const { return static_cast<int>(quarantine_.size()); }
  // Blocks that only the prefix tree holds.
  int num_idle() const { return num_idle_; }
  int64_t num_allocations() const { return num_allocations_; }

  // Dies when the counts and lists disagree; for tests.
  void CheckInvariants() const;

 private:
  friend class BlockHandle;
  struct Block {
    int refs = 0;
    bool cached = false;
    int64_t busy_until = 0;  // number of the newest step begun before the last release
  };

  void AddRef(BlockId id);
  void Release(BlockId id, bool may_be_named);
  bool IsIdle(const Block& block) const { return block.cached && block.refs == 1; }

  std::vector<Block> blocks_;
  int num_reserved_;
  std::vector<BlockId> free_;  // a stack: the block used last is the warmest
  std::vector<BlockId> quarantine_;
  int num_idle_ = 0;
  int64_t steps_begun_ = 0;
  int64_t steps_ended_ = 0;
  int64_t num_allocations_ = 0;
};

}  // namespace trireme::kv_cache
