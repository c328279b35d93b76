// SPDX-License-Identifier: Apache-2.0
#include "text/literal_matcher.h"

#include <algorithm>
#include <cstring>

namespace trireme {

void LiteralMatcher::Add(std::string_view literal, int32_t value) {
  if (literal.empty()) return;
  if (nodes_.empty()) nodes_.emplace_back();
  uint32_t at = 0;
  for (const char c : literal) {
    const auto byte = static_cast<uint8_t>(c);
    auto& edges = nodes_[at].edges;
    const auto edge =
        std::find_if(edges.begin(), edges.end(), [&](const Edge& e) { return e.byte == byte; });
    if (edge != edges.end()) {
      at = edge->node;
      continue;
    }
    const auto next = static_cast<uint32_t>(nodes_.size());
    edges.push_back({byte, next});
    nodes_.emplace_back();
    at = next;
  }
  nodes_[at].value = value;
}

void LiteralMatcher::Finish() {
  for (Node& node : nodes_)
    std::sort(node.edges.begin(), node.edges.end(),
              [](const Edge& a, const Edge& b) { return a.byte < b.byte; });
  if (nodes_.empty()) return;
  for (const Edge& edge : nodes_[0].edges) starts_[edge.byte] = true;
  if (nodes_[0].edges.size() == 1) only_start_ = nodes_[0].edges[0].byte;
}

int32_t LiteralMatcher::LongestPrefix(std::string_view text, size_t& size) const {
  int32_t value = -1;
  if (nodes_.empty()) return value;
  uint32_t at = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    const auto& edges = nodes_[at].edges;
    const auto edge = std::lower_bound(edges.begin(), edges.end(), byte,
                                       [](const Edge& e, uint8_t b) { return e.byte < b; });
    if (edge == edges.end() || edge->byte != byte) break;
    at = edge->node;
    if (nodes_[at].value < 0) continue;
    value = nodes_[at].value;
    size = i + 1;
  }
  return value;
}

int32_t LiteralMatcher::Find(std::string_view text, size_t from, size_t& begin, size_t& end) const {
  if (nodes_.empty()) return -1;
  for (size_t at = from; at < text.size(); ++at) {
    if (only_start_ >= 0) {
      const void* found = std::memchr(text.data() + at, only_start_, text.size() - at);
      if (found == nullptr) return -1;
      at = static_cast<size_t>(static_cast<const char*>(found) - text.data());
    } else if (!starts_[static_cast<uint8_t>(text[at])]) {
      continue;
    }
    size_t size = 0;
    const int32_t value = LongestPrefix(text.substr(at), size);
    if (value < 0) continue;
    begin = at;
    end = at + size;
    return value;
  }
  return -1;
}

}  // namespace trireme
