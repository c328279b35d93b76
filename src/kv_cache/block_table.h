// SPDX-License-Identifier: Apache-2.0
// BlockTable: the KV blocks of one sequence, in order of position. Engine thread only.
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
  std::span<const BlockHandle> blocks() const { return blocks_; }
  std::span<BlockHandle> mutable_blocks() { return blocks_; }

  void Append(BlockHandle block) { blocks_.push_back(std::move(block)); }
  // Gives every block back.
  void Clear() {
    blocks_.clear();
    num_sent_ = 0;
  }

  // Entries [0, num_sent) are those the session knows.
  int num_sent() const { return num_sent_; }
  void MarkSent() { num_sent_ = num_blocks(); }
  void MarkUnsentFrom(int index) { num_sent_ = std::min(num_sent_, index); }

 private:
  std::vector<BlockHandle> blocks_;
  int num_sent_ = 0;
};

}  // namespace trireme::kv_cache
