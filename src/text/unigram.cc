// SPDX-License-Identifier: Apache-2.0
#include "text/unigram.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "text/utf8.h"

namespace trireme {

StatusOr<std::unique_ptr<Unigram>> Unigram::Make(UnigramOptions options, Vocab vocab,
                                                 std::vector<double> scores) {
  std::unique_ptr<Unigram> model(new Unigram(options, std::move(vocab)));
  scores.resize(static_cast<size_t>(model->vocab_.id_limit()), std::nan(""));
  if (options.unk_id >= model->vocab_.id_limit())
    return InvalidArgument("unk_id {} is outside the vocabulary of {} tokens", options.unk_id,
                           model->vocab_.id_limit());
  std::vector<std::pair<std::string_view, int32_t>> keys;
  double lowest = 0;
  bool any = false;
  for (int32_t id = 0; id < model->vocab_.id_limit(); ++id) {
    const double score = scores[static_cast<size_t>(id)];
    if (std::isnan(score) || !model->vocab_.MatchesText(id)) continue;
    if (std::isinf(score)) return InvalidArgument("token {} has an infinite score", id);
    lowest = any ? std::min(lowest, score) : score;
    any = true;
    keys.emplace_back(model->vocab_.Text(id), id);
  }
  model->trie_.Build(std::move(keys));
  model->scores_ = std::move(scores);
  model->unk_score_ = options.lowest_score.value_or(lowest) - options.unk_penalty;
  if (options.byte_fallback) {
    for (int byte = 0; byte < 256; ++byte) {
      const int32_t id = model->vocab_.FindLiteral(fmt::format("<0x{:02X}>", byte));
      if (id < 0) break;
      model->byte_ids_.push_back(id);
    }
    if (model->byte_ids_.size() != 256) model->byte_ids_.clear();
  }
  return model;
}

std::optional<int32_t> Unigram::TokenToId(std::string_view token) const {
  const int32_t id = vocab_.FindLiteral(token);
  return id < 0 ? std::nullopt : std::optional<int32_t>(id);
}

Status Unigram::Encode(std::string_view text, std::span<const Span> words,
                       std::vector<int32_t>& ids) const {
  for (const Span& word : words) {
    const std::string_view part = text.substr(word.begin, word.end - word.begin);
    TRIREME_RETURN_IF_ERROR(options_.single_precision ? EncodeWord<float>(part, ids)
                                                      : EncodeWord<double>(part, ids));
  }
  return OkStatus();
}

// best[i] is the best cut of the first i bytes: its score, and its last token.
template <typename Real>
Status Unigram::EncodeWord(std::string_view word, std::vector<int32_t>& ids) const {
  struct Best {
    Real score = 0;
    uint32_t begin = UINT32_MAX;  // of the last token; UINT32_MAX: not reached
    int32_t id = -1;              // -1: unknown
  };
  std::vector<Best> best(word.size() + 1);
  const auto offer = [&](size_t end, size_t begin, Real score, int32_t id) {
    Best& target = best[end];
    if (target.begin == UINT32_MAX || score > target.score)
      target = {score, static_cast<uint32_t>(begin), id};
  };
  for (size_t begin = 0; begin < word.size();) {
    const size_t length = utf8::Length(static_cast<uint8_t>(word[begin]));
    const Real so_far = best[begin].score;
    bool single = false;
    uint32_t node = Trie::kRoot;
    for (size_t end = begin;
         end < word.size() && trie_.Step(node, static_cast<uint8_t>(word[end]));) {
      ++end;
      const int32_t id = trie_.Value(node);
      if (id < 0) continue;
      offer(end, begin, static_cast<Real>(scores_[static_cast<size_t>(id)]) + so_far, id);
      single = single || end - begin == length;
    }
    if (!single) offer(begin + length, begin, static_cast<Real>(unk_score_) + so_far, -1);
    begin += length;
  }
  std::vector<std::pair<uint32_t, int32_t>> tokens;  // begin and id, last first
  for (size_t end = word.size(); end > 0; end = best[end].begin)
    tokens.emplace_back(best[end].begin, best[end].id);
  for (size_t i = tokens.size(); i > 0;) {
    --i;
    if (tokens[i].second >= 0 && tokens[i].second != options_.unk_id) {
      ids.push_back(tokens[i].second);
      continue;
    }
    const size_t begin = tokens[i].first;
    const auto unknown = [&](size_t k) {
      return tokens[k].second < 0 || tokens[k].second == options_.unk_id;
    };
    while (options_.fuse_unk && i > 0 && unknown(i - 1)) --i;
    const size_t end = i > 0 ? tokens[i - 1].first : word.size();
    TRIREME_RETURN_IF_ERROR(AppendUnknown(word.substr(begin, end - begin), ids));
  }
  return OkStatus();
}

Status Unigram::AppendUnknown(std::string_view text, std::vector<int32_t>& ids) const {
  if (!byte_ids_.empty()) {
    for (const char c : text) ids.push_back(byte_ids_[static_cast<uint8_t>(c)]);
    return OkStatus();
  }
  if (options_.unk_id < 0)
    return InvalidArgument("the vocabulary has no token for '{}' and names no unk_id", text);
  ids.push_back(options_.unk_id);
  return OkStatus();
}

}  // namespace trireme
