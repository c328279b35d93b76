// SPDX-License-Identifier: Apache-2.0
// PrefixTree: which blocks hold which prefix, so that a later request can start behind it. Engine
// thread only.
//
//   root (LoRA id, salt, layout) -- [t0 .. t63] -- [t64 .. t127] --+-- [ ... ]
//                                                                  +-- [ ... ]
//
// A node is one whole block; its path from the root spells the tokens before it. Children are found
// by hash and confirmed by comparing tokens, so a hash collision is a miss, never a wrong block.
// The tree holds one reference to each block. Whoever uses a node uses all nodes above it, hence
// blocks that only the tree holds can always be given up leaf by leaf: lowest priority first, then
// the one unused for longest.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "kv_cache/block_pool.h"

namespace trireme::kv_cache {

// Sequences share blocks only when all of these agree.
struct PrefixKey {
  uint64_t lora_id = 0;
  uint64_t salt = 0;    // chosen by the client to keep tenants apart
  uint64_t layout = 0;  // of the KV block
  friend auto operator<=>(const PrefixKey&, const PrefixKey&) = default;
};

class PrefixTree {
 public:
  // `pool` must outlive the tree.
  PrefixTree(BlockPool& pool, int block_size);
  ~PrefixTree();

  // References to the blocks that hold the longest known prefix of `tokens`, in whole blocks and
  // at most `max_blocks` of them.
  std::vector<BlockHandle> Match(const PrefixKey& key, std::span<const int32_t> tokens,
                                 int max_blocks);

  // Remembers that `blocks` hold the whole blocks of `tokens`. Where the tree knows a prefix
  // already, the holder's own block is swapped for the tree's, which holds the same: equal prompts
  // computed side by side end up sharing. Returns the index of the first block swapped, or -1.
  int Insert(const PrefixKey& key, std::span<const int32_t> tokens, std::span<BlockHandle> blocks,
             float priority);

  // Gives up to `wanted` idle blocks back to the pool; returns how many.
  int Evict(int wanted);

  int num_nodes() const { return num_nodes_; }
  void CheckInvariants() const;

 private:
  struct Node;
  // Order in which leaves are given up. Ticks are unique.
  struct LeafKey {
    float priority;
    int64_t last_used;
    friend auto operator<=>(const LeafKey&, const LeafKey&) = default;
  };
  struct Node {
    Node* parent = nullptr;  // of the roots: none
    uint64_t hash = 0;
    std::vector<int32_t> tokens;  // [block_size]
    BlockHandle block;
    float priority = 0;
    int64_t last_used = 0;
    std::unordered_map<uint64_t, std::unique_ptr<Node>> children;

    bool is_leaf() const { return parent != nullptr && children.empty(); }
    LeafKey leaf_key() const { return {priority, last_used}; }
  };

  Node* FindChild(Node& parent, std::span<const int32_t> tokens) const;
  // Null when another block with the same hash is in the way.
  Node* AddChild(Node& parent, std::span<const int32_t> tokens, const BlockHandle& block);
  void Touch(Node& node, float priority);
  void Remove(Node& node);
  void CheckSubtree(const Node& node, int& nodes, int& leaves) const;

  BlockPool& pool_;
  const int block_size_;
  std::map<PrefixKey, Node> roots_;
  std::map<LeafKey, Node*> leaves_;
  int num_nodes_ = 0;
  int64_t tick_ = 0;
};

}  // namespace trireme::kv_cache
