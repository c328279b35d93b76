// SPDX-License-Identifier: Apache-2.0
// Finds the strings of a fixed set in a text. Immutable once finished, then thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace trireme {

// Leftmost-longest matching of a fixed set of strings, by a trie over bytes.
class LiteralMatcher {
 public:
  void Add(std::string_view literal, int32_t value);  // the last value of a literal stays
  void Finish();
  bool empty() const { return nodes_.empty(); }
  // The first match at or behind `from`: sets its range, returns its value, or -1.
  int32_t Find(std::string_view text, size_t from, size_t& begin, size_t& end) const;
  // The longest match that begins at the begin of `text`, its size in `size`; or -1.
  int32_t LongestPrefix(std::string_view text, size_t& size) const;

 private:
  struct Edge {
    uint8_t byte;
    uint32_t node;
  };
  struct Node {
    std::vector<Edge> edges;  // sorted by byte once finished
    int32_t value = -1;
  };
  std::vector<Node> nodes_;
  bool starts_[256] = {};
  int only_start_ = -1;  // the one byte all literals start with
};

}  // namespace trireme
