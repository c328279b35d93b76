// SPDX-License-Identifier: Apache-2.0
#include "text/trie.h"

#include <algorithm>

namespace trireme {

// Looks for a place where all children fit. The search starts at the first stretch that is not
// nearly full, so that it stays short.
uint32_t Trie::FindBase(const std::vector<uint8_t>& bytes) {
  uint32_t at = std::max<uint32_t>(first_free_, bytes.front() + 1u);
  uint32_t taken = 0;
  const uint32_t start = at;
  bool first = true;
  for (;; ++at) {
    if (at >= units_.size()) units_.resize(at + 512);
    if (units_[at].parent != kNone) {
      ++taken;
      continue;
    }
    if (first) {
      first_free_ = at;
      first = false;
    }
    const uint32_t base = at - bytes.front();
    const size_t need = static_cast<size_t>(base) + bytes.back() + 1;
    if (need > units_.size()) units_.resize(need + 512);
    const bool fits = std::all_of(bytes.begin(), bytes.end(), [&](uint8_t byte) {
      return units_[base + byte].parent == kNone;
    });
    if (!fits) continue;
    if (at > start + 64 && taken * 20 >= (at - start) * 19) first_free_ = at;
    return base;
  }
}

void Trie::Build(Keys keys) {
  units_.assign(1, Unit());
  units_[0].parent = kRoot;  // taken; no Step leads to the root, whose byte would be below base
  first_free_ = 1;
  std::stable_sort(keys.begin(), keys.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  struct Range {
    uint32_t node;
    size_t begin, end, depth;
  };
  std::vector<Range> todo = {{kRoot, 0, keys.size(), 0}};
  std::vector<uint8_t> bytes;
  std::vector<size_t> starts;
  while (!todo.empty()) {
    Range range = todo.back();
    todo.pop_back();
    while (range.begin < range.end && keys[range.begin].first.size() == range.depth) {
      if (range.depth > 0) units_[range.node].value = keys[range.begin].second;
      ++range.begin;
    }
    if (range.begin == range.end) continue;
    bytes.clear();
    starts.clear();
    for (size_t i = range.begin; i < range.end; ++i) {
      const auto byte = static_cast<uint8_t>(keys[i].first[range.depth]);
      if (bytes.empty() || bytes.back() != byte) {
        bytes.push_back(byte);
        starts.push_back(i);
      }
    }
    starts.push_back(range.end);
    const uint32_t base = FindBase(bytes);
    units_[range.node].base = base;
    for (size_t i = 0; i < bytes.size(); ++i) {
      units_[base + bytes[i]].parent = range.node;
      todo.push_back({base + bytes[i], starts[i], starts[i + 1], range.depth + 1});
    }
  }
}

}  // namespace trireme
