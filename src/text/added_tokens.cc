// SPDX-License-Identifier: Apache-2.0
#include "text/added_tokens.h"

#include <algorithm>

#include "text/unicode.h"
#include "text/utf8.h"

namespace trireme {

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
    AddedToken& token = tokens_[i];
    by_id_[token.id] = i;
    lowest_id_ = i == 0 ? token.id : std::min(lowest_id_, token.id);
    highest_id_ = i == 0 ? token.id : std::max(highest_id_, token.id);
    if (!token.normalized) {
      raw_.Add(token.content, static_cast<int32_t>(i));
      continue;
    }
    std::string storage;
    std::string_view content = token.content;
    if (normalizer != nullptr) TRIREME_RETURN_IF_ERROR(normalizer->Apply(content, storage, true));
    token.in_text = content;
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
  if (id < lowest_id_ || id > highest_id_) return nullptr;
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
