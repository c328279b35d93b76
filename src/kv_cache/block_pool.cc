// SPDX-License-Identifier: Apache-2.0
#include "kv_cache/block_pool.h"

#include <algorithm>

#include "base/check.h"

namespace trireme::kv_cache {

BlockHandle BlockHandle::Share() const {
  TRIREME_CHECK(valid());
  pool_->AddRef(id_);
  return BlockHandle(pool_, id_);
}

void BlockHandle::Reset() {
  if (pool_ == nullptr) return;
  std::exchange(pool_, nullptr)->Release(std::exchange(id_, -1), /*may_be_named=*/true);
}

BlockPool::BlockPool(int num_blocks, int num_reserved)
    : blocks_(num_blocks), num_reserved_(num_reserved) {
  TRIREME_CHECK_GE(num_reserved, 0);
  TRIREME_CHECK_LE(num_reserved, num_blocks);
  free_.reserve(num_blocks);
  quarantine_.reserve(num_blocks);
  for (BlockId id = num_blocks - 1; id >= num_reserved; --id) free_.push_back(id);
}

BlockPool::~BlockPool() { TRIREME_CHECK_EQ(num_free() + num_quarantined(), num_usable()); }

BlockHandle BlockPool::Allocate() {
  if (free_.empty()) return BlockHandle();
  const BlockId id = free_.back();
  free_.pop_back();
  blocks_[id] = {.refs = 1};
  ++num_allocations_;
  return BlockHandle(this, id);
}

void BlockPool::EndStep() {
  TRIREME_CHECK_LT(steps_ended_, steps_begun_);
  ++steps_ended_;
  std::erase_if(quarantine_, [this](BlockId id) {
    if (busy(id)) return false;
    free_.push_back(id);
    return true;
  });
}

void BlockPool::SetCached(BlockId id, bool cached) {
  Block& block = blocks_[id];
  TRIREME_CHECK_GE(block.refs, 1);
  num_idle_ -= IsIdle(block);
  block.cached = cached;
  num_idle_ += IsIdle(block);
}

void BlockPool::ReturnIdle(BlockHandle handle) {
  TRIREME_CHECK(handle.pool_ == this);
  handle.pool_ = nullptr;
  Release(handle.id_, /*may_be_named=*/false);
}

void BlockPool::AddRef(BlockId id) {
  Block& block = blocks_[id];
  TRIREME_CHECK_GE(block.refs, 1);
  num_idle_ -= IsIdle(block);
  ++block.refs;
}

void BlockPool::Release(BlockId id, bool may_be_named) {
  Block& block = blocks_[id];
  TRIREME_CHECK_GE(block.refs, 1);
  num_idle_ -= IsIdle(block);
  --block.refs;
  num_idle_ += IsIdle(block);
  if (may_be_named && steps_begun_ > steps_ended_) block.busy_until = steps_begun_;
  if (block.refs > 0) return;
  block.cached = false;
  (busy(id) ? quarantine_ : free_).push_back(id);
}

void BlockPool::CheckInvariants() const {
  std::vector<int> seen(blocks_.size(), 0);
  for (BlockId id : free_) {
    ++seen[id];
    TRIREME_CHECK(!busy(id));
  }
  for (BlockId id : quarantine_) {
    ++seen[id];
    TRIREME_CHECK(busy(id));
  }
  int idle = 0;
  for (BlockId id = 0; id < static_cast<BlockId>(blocks_.size()); ++id) {
    const Block& block = blocks_[id];
    TRIREME_CHECK_GE(block.refs, 0);
    const bool listed = id >= num_reserved_ && block.refs == 0;
    TRIREME_CHECK_EQ(seen[id], listed ? 1 : 0);
    idle += IsIdle(block);
  }
  TRIREME_CHECK_EQ(idle, num_idle_);
}

}  // namespace trireme::kv_cache
