// SPDX-License-Identifier: Apache-2.0
#include "kv_cache/prefix_tree.h"

#include <algorithm>

#include "base/check.h"

namespace trireme::kv_cache {
namespace {

// FNV-1a over the ids, then a final mix; collisions cost a miss only.
uint64_t HashTokens(std::span<const int32_t> tokens) {
  uint64_t hash = 0xcbf29ce484222325ull;
  for (int32_t token : tokens) {
    hash ^= static_cast<uint32_t>(token);
    hash *= 0x100000001b3ull;
  }
  return hash ^ (hash >> 32);
}

}  // namespace

PrefixTree::PrefixTree(BlockPool& pool, int block_size) : pool_(pool), block_size_(block_size) {
  TRIREME_CHECK_GE(block_size, 1);
}

// Leaf by leaf: a chain may be thousands of blocks deep, too deep for nested destructors.
PrefixTree::~PrefixTree() {
  while (!leaves_.empty()) Remove(*leaves_.begin()->second);
}

std::vector<BlockHandle> PrefixTree::Match(const PrefixKey& key, std::span<const int32_t> tokens,
                                           int max_blocks) {
  std::vector<BlockHandle> blocks;
  auto root = roots_.find(key);
  if (root == roots_.end()) return blocks;
  Node* node = &root->second;
  while (static_cast<int>(blocks.size()) < max_blocks &&
         tokens.size() >= static_cast<size_t>(block_size_)) {
    node = FindChild(*node, tokens.first(block_size_));
    if (node == nullptr) break;
    Touch(*node, node->priority);
    blocks.push_back(node->block.Share());
    tokens = tokens.subspan(block_size_);
  }
  return blocks;
}

int PrefixTree::Insert(const PrefixKey& key, std::span<const int32_t> tokens,
                       std::span<BlockHandle> blocks, float priority) {
  const size_t num_whole = std::min(blocks.size(), tokens.size() / block_size_);
  int first_swapped = -1;
  if (num_whole == 0) return first_swapped;
  Node* node = &roots_[key];
  for (size_t i = 0; i < num_whole; ++i) {
    const auto block_tokens = tokens.subspan(i * block_size_, block_size_);
    Node* child = FindChild(*node, block_tokens);
    if (child == nullptr) child = AddChild(*node, block_tokens, blocks[i]);
    if (child == nullptr) break;
    Touch(*child, std::max(priority, child->priority));
    if (child->block.id() != blocks[i].id()) {
      blocks[i] = child->block.Share();
      if (first_swapped < 0) first_swapped = static_cast<int>(i);
    }
    node = child;
  }
  return first_swapped;
}

int PrefixTree::Evict(int wanted) {
  int evicted = 0;
  auto leaf = leaves_.begin();
  while (evicted < wanted && leaf != leaves_.end()) {
    Node& node = *leaf->second;
    if (pool_.refs(node.block.id()) > 1 || pool_.busy(node.block.id())) {
      ++leaf;
      continue;
    }
    Remove(node);
    ++evicted;
    // The parent may have become the oldest leaf. Leaves skipped again are those of running
    // sequences, so few.
    leaf = leaves_.begin();
  }
  return evicted;
}

PrefixTree::Node* PrefixTree::FindChild(Node& parent, std::span<const int32_t> tokens) const {
  auto found = parent.children.find(HashTokens(tokens));
  if (found == parent.children.end()) return nullptr;
  Node* node = found->second.get();
  return std::ranges::equal(node->tokens, tokens) ? node : nullptr;
}

PrefixTree::Node* PrefixTree::AddChild(Node& parent, std::span<const int32_t> tokens,
                                       const BlockHandle& block) {
  const uint64_t hash = HashTokens(tokens);
  if (parent.children.contains(hash)) return nullptr;
  TRIREME_CHECK(!pool_.cached(block.id()));
  if (parent.is_leaf()) leaves_.erase(parent.leaf_key());
  auto node = std::make_unique<Node>();
  node->parent = &parent;
  node->hash = hash;
  node->tokens.assign(tokens.begin(), tokens.end());
  node->block = block.Share();
  node->last_used = ++tick_;
  pool_.SetCached(block.id(), true);
  ++num_nodes_;
  Node* raw = node.get();
  leaves_.emplace(raw->leaf_key(), raw);
  parent.children.emplace(hash, std::move(node));
  return raw;
}

void PrefixTree::Touch(Node& node, float priority) {
  const bool leaf = node.is_leaf();
  if (leaf) leaves_.erase(node.leaf_key());
  node.priority = priority;
  node.last_used = ++tick_;
  if (leaf) leaves_.emplace(node.leaf_key(), &node);
}

void PrefixTree::Remove(Node& node) {
  TRIREME_CHECK(node.is_leaf());
  leaves_.erase(node.leaf_key());
  pool_.SetCached(node.block.id(), false);
  pool_.ReturnIdle(std::move(node.block));
  --num_nodes_;
  Node* parent = node.parent;
  parent->children.erase(node.hash);
  if (parent->is_leaf()) leaves_.emplace(parent->leaf_key(), parent);
  if (parent->parent == nullptr && parent->children.empty()) {
    std::erase_if(roots_, [&](const auto& root) { return &root.second == parent; });
  }
}

void PrefixTree::CheckInvariants() const {
  int nodes = 0;
  int leaves = 0;
  for (const auto& [key, root] : roots_) {
    TRIREME_CHECK(root.parent == nullptr);
    for (const auto& [hash, child] : root.children) CheckSubtree(*child, nodes, leaves);
  }
  TRIREME_CHECK_EQ(nodes, num_nodes_);
  TRIREME_CHECK_EQ(leaves, static_cast<int>(leaves_.size()));
}

void PrefixTree::CheckSubtree(const Node& node, int& nodes, int& leaves) const {
  ++nodes;
  TRIREME_CHECK(pool_.cached(node.block.id()));
  TRIREME_CHECK_GE(pool_.refs(node.block.id()), 1);
  TRIREME_CHECK_EQ(static_cast<int>(node.tokens.size()), block_size_);
  if (node.is_leaf()) {
    ++leaves;
    auto found = leaves_.find(node.leaf_key());
    TRIREME_CHECK(found != leaves_.end() && found->second == &node);
  }
  for (const auto& [hash, child] : node.children) {
    TRIREME_CHECK(child->parent == &node && child->hash == hash);
    // Whoever uses a child uses its parent.
    TRIREME_CHECK(pool_.refs(child->block.id()) == 1 || pool_.refs(node.block.id()) > 1);
    CheckSubtree(*child, nodes, leaves);
  }
}

}  // namespace trireme::kv_cache
