// SPDX-License-Identifier: Apache-2.0
#include "text/word_piece.h"

#include <algorithm>

#include "text/utf8.h"

namespace trireme {
namespace {

std::optional<int32_t> Known(int32_t id) {
  return id < 0 ? std::nullopt : std::optional<int32_t>(id);
}

Status NoUnknownToken(std::string_view word, std::string_view unk_token) {
  return InvalidArgument("'{}' has no token and unk_token '{}' is not in the vocabulary", word,
                         unk_token);
}

}  // namespace

WordPiece::WordPiece(WordPieceOptions options, Vocab vocab)
    : options_(std::move(options)),
      vocab_(Finished(std::move(vocab))),
      unk_id_(vocab_.Find(options_.unk_token)) {}

Status WordPiece::Encode(std::string_view text, std::span<const Span> words,
                         std::vector<int32_t>& ids) const {
  for (const Span& span : words) {
    const std::string_view word = text.substr(span.begin, span.end - span.begin);
    const size_t before = ids.size();
    if (EncodeWord(word, ids)) continue;
    if (unk_id_ < 0) return NoUnknownToken(word, options_.unk_token);
    ids.resize(before);
    ids.push_back(unk_id_);
  }
  return OkStatus();
}

// False when the word has no cut; then `ids` holds the beginning of one.
bool WordPiece::EncodeWord(std::string_view word, std::vector<int32_t>& ids) const {
  const auto is_start = [](char c) { return (static_cast<uint8_t>(c) & 0xc0) != 0x80; };
  if (static_cast<size_t>(std::count_if(word.begin(), word.end(), is_start)) >
      options_.max_input_chars_per_word)
    return false;
  const std::string& prefix = options_.continuing_subword_prefix;
  std::string candidate;
  for (size_t begin = 0; begin < word.size();) {
    candidate = begin > 0 ? prefix : "";
    const size_t affix = candidate.size();
    candidate += word.substr(begin, vocab_.longest_text());
    int32_t id = -1;
    while (candidate.size() > affix) {
      const size_t end = begin + candidate.size() - affix;
      if (end == word.size() || is_start(word[end])) id = vocab_.Find(candidate);
      if (id >= 0) break;
      candidate.pop_back();
    }
    if (id < 0) return false;
    ids.push_back(id);
    begin += candidate.size() - affix;
  }
  return true;
}

std::optional<int32_t> WordPiece::TokenToId(std::string_view token) const {
  return Known(vocab_.FindLiteral(token));
}

WordLevel::WordLevel(std::string unk_token, Vocab vocab)
    : unk_token_(std::move(unk_token)),
      vocab_(Finished(std::move(vocab))),
      unk_id_(vocab_.Find(unk_token_)) {}

Status WordLevel::Encode(std::string_view text, std::span<const Span> words,
                         std::vector<int32_t>& ids) const {
  for (const Span& span : words) {
    const std::string_view word = text.substr(span.begin, span.end - span.begin);
    int32_t id = vocab_.Find(word);
    if (id < 0) id = unk_id_;
    if (id < 0) return NoUnknownToken(word, unk_token_);
    ids.push_back(id);
  }
  return OkStatus();
}

std::optional<int32_t> WordLevel::TokenToId(std::string_view token) const {
  return Known(vocab_.FindLiteral(token));
}

}  // namespace trireme
