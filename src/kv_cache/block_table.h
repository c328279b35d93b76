// SPDX-License-Identifier: Apache-2.0
// BlockTable: the KV blocks of one sequence, in order of position. A run of blocks that a
// sliding window has left may be dropped; the others keep their index. Engine thread only.
#pragma once

#include <algorithm>
#include <span>
#include <utility>
#include <vector>

#include "kv_cache/block_pool.h"

namespace trireme::kv_cache {

class BlockTable {
 public:
  int num_blocks() const { return static_cast<int>(blocks_.size()); }
  // Dropped entries are empty handles.
  std::span<const BlockHandle> blocks() const { return blocks_; }
  std::span<BlockHandle> mutable_blocks() { return blocks_; }
  int num_dropped() const { return num_dropped_; }
  int num_held() const { return num_blocks() - num_dropped_; }

  void Append(BlockHandle block) { blocks_.push_back(std::move(block)); }
  // Gives block `index` back, which it holds.
  void Drop(int index) {
    blocks_[index].Reset();
    ++num_dropped_;
  }
  // Gives every block back.
  void Clear() {
    blocks_.clear();
    num_dropped_ = 0;
    num_sent_ = 0;
  }

  // Entries [0, num_sent) are those the session knows.
  int num_sent() const { return num_sent_; }
  void MarkSent() { num_sent_ = num_blocks(); }
  void MarkUnsentFrom(int index) { num_sent_ = std::min(num_sent_, index); }

 private:
  std::vector<BlockHandle> blocks_;
  int num_sent_ = 0;
  int num_dropped_ = 0;
};

}  // namespace trireme::kv_cache
