// SPDX-License-Identifier: Apache-2.0
#include "text/added_tokens.h"

#include <algorithm>
#include <cstring>

#include "text/unicode.h"
#include "text/utf8.h"

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

void AddedTokens::Add(AddedToken token) {
  if (token.content.empty()) return;
  const auto [found, fresh] = by_content_.try_emplace(token.content, tokens_.size());
  if (!fresh) {
    tokens_[found->second] = std::move(token);
    return;
  }
  tokens_.push_back(std::move(token));
}

Status AddedTokens::Finish(const Normalizer* normalizer) {
  for (size_t i = 0; i < tokens_.size(); ++i) {
    const AddedToken& token = tokens_[i];
    by_id_[token.id] = i;
    if (!token.normalized) {
      raw_.Add(token.content, static_cast<int32_t>(i));
      continue;
    }
    std::string storage;
    std::string_view content = token.content;
    if (normalizer != nullptr) TRIREME_RETURN_IF_ERROR(normalizer->Apply(content, storage, true));
    normalized_.Add(content, static_cast<int32_t>(i));
  }
  raw_.Finish();
  normalized_.Finish();
  return OkStatus();
}

const AddedToken* AddedTokens::Find(std::string_view content) const {
  const auto found = by_content_.find(std::string(content));
  return found == by_content_.end() ? nullptr : &tokens_[found->second];
}

const AddedToken* AddedTokens::Find(int32_t id) const {
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : &tokens_[found->second];
}

void AddedTokens::CutRaw(std::string_view text, std::vector<Segment>& segments) const {
  Cut(raw_, text, segments);
}

void AddedTokens::CutNormalized(std::string_view text, std::vector<Segment>& segments) const {
  Cut(normalized_, text, segments);
}

void AddedTokens::Cut(const LiteralMatcher& matcher, std::string_view text,
                      std::vector<Segment>& out) const {
  size_t done = 0;
  size_t from = 0;
  size_t begin = 0, end = 0;
  while (from < text.size()) {
    const int32_t index = matcher.Find(text, from, begin, end);
    if (index < 0) break;
    from = end;
    const AddedToken& token = tokens_[static_cast<size_t>(index)];
    if (token.single_word) {
      const bool word_before =
          begin > 0 && unicode::IsWordChar(utf8::DecodeLastValid(text.data() + begin).code_point);
      const bool word_behind =
          end < text.size() && unicode::IsWordChar(utf8::DecodeValid(text.data() + end).code_point);
      if (word_before || word_behind) continue;
    }
    while (token.lstrip && begin > done) {
      const utf8::Decoded d = utf8::DecodeLastValid(text.data() + begin);
      if (!unicode::IsWhiteSpace(d.code_point)) break;
      begin -= d.size;
    }
    begin = std::max(begin, done);
    while (token.rstrip && end < text.size()) {
      const utf8::Decoded d = utf8::DecodeValid(text.data() + end);
      if (!unicode::IsWhiteSpace(d.code_point)) break;
      end += d.size;
    }
    if (done < begin)
      out.push_back({{static_cast<uint32_t>(done), static_cast<uint32_t>(begin)}, -1});
    out.push_back({{static_cast<uint32_t>(begin), static_cast<uint32_t>(end)}, token.id});
    done = end;
    from = std::max(from, end);
  }
  if (done < text.size())
    out.push_back({{static_cast<uint32_t>(done), static_cast<uint32_t>(text.size())}, -1});
}

}  // namespace trireme
