// SPDX-License-Identifier: Apache-2.0
#include "kernels/sampling_state.h"

#include <algorithm>

#include "base/check.h"

namespace trireme::kernels {
namespace {

void CopyWords(std::span<const std::vector<TokenId>> words,
               std::vector<std::vector<TokenId>>& copy) {
  copy.clear();
  for (const std::vector<TokenId>& word : words) {
    if (!word.empty()) copy.push_back(word);
  }
}

}  // namespace

void SamplingState::Reset(const SamplingSetup& setup, int vocab_size) {
  TRIREME_CHECK(setup.embedding_bias.empty() ||
                setup.embedding_bias.size() == static_cast<size_t>(vocab_size));
  params_ = setup.params;
  vocab_size_ = vocab_size;
  max_tokens_ = setup.max_tokens;
  log_probs_ = setup.log_probs;
  has_penalties_ = params_.repetition_penalty != 1.0f || params_.presence_penalty != 0.0f ||
                   params_.frequency_penalty != 0.0f;
  top_p_ = params_.top_p;
  cum_log_prob_ = 0.0f;
  end_ids_.assign(setup.end_ids.begin(), setup.end_ids.end());
  bias_.assign(setup.embedding_bias.begin(), setup.embedding_bias.end());
  CopyWords(setup.bad_words, bad_words_);
  CopyWords(setup.stop_words, stop_words_);

  seen_.clear();
  seen_index_.assign(has_penalties_ ? static_cast<size_t>(vocab_size) : 0, -1);
  num_prompt_ = setup.prompt.size();
  tokens_.assign(setup.prompt.begin(), setup.prompt.end());
  tokens_.reserve(num_prompt_ + static_cast<size_t>(std::max(max_tokens_, 0)));
  for (TokenId token : setup.prompt) CountSeen(token);
  for (TokenId token : setup.generated) Append(token, 0.0f);
}

void SamplingState::CountSeen(TokenId token) {
  TRIREME_CHECK(token >= 0 && token < vocab_size_);
  if (!has_penalties_) return;
  int32_t& index = seen_index_[static_cast<size_t>(token)];
  if (index < 0) {
    index = static_cast<int32_t>(seen_.size());
    seen_.push_back({token, 0});
  }
  ++seen_[static_cast<size_t>(index)].count;
}

bool SamplingState::EndsWith(std::span<const TokenId> tail, size_t first) const {
  if (tokens_.size() - first < tail.size()) return false;
  return std::equal(tail.rbegin(), tail.rend(), tokens_.rbegin());
}

FinishReason SamplingState::Append(TokenId token, float log_prob) {
  CountSeen(token);
  tokens_.push_back(token);
  cum_log_prob_ += log_prob;
  top_p_ = token == params_.top_p_reset_id
               ? params_.top_p
               : std::max(top_p_ * params_.top_p_decay, std::min(params_.top_p, params_.top_p_min));
  if (std::find(end_ids_.begin(), end_ids_.end(), token) != end_ids_.end()) {
    return FinishReason::kEndId;
  }
  for (const std::vector<TokenId>& word : stop_words_) {
    if (EndsWith(word, num_prompt_)) return FinishReason::kStopWords;
  }
  const bool full = tokens_.size() - num_prompt_ >= static_cast<size_t>(std::max(max_tokens_, 0));
  return full ? FinishReason::kLength : FinishReason::kNotFinished;
}

bool SamplingState::has_bans() const {
  return !bad_words_.empty() || params_.no_repeat_ngram_size > 0 ||
         (!end_ids_.empty() &&
          generated().size() < static_cast<size_t>(std::max(params_.min_tokens, 0)));
}

void SamplingState::CollectBanned(std::vector<TokenId>& banned) const {
  const auto ban = [&](TokenId token) {
    if (token >= 0 && token < vocab_size_) banned.push_back(token);
  };
  if (generated().size() < static_cast<size_t>(std::max(params_.min_tokens, 0))) {
    for (TokenId token : end_ids_) ban(token);
  }
  for (const std::vector<TokenId>& word : bad_words_) {
    if (EndsWith(std::span<const TokenId>(word).first(word.size() - 1), 0)) ban(word.back());
  }
  if (params_.no_repeat_ngram_size > 0) CollectRepeatedNgrams(banned);
}

void SamplingState::CollectRepeatedNgrams(std::vector<TokenId>& banned) const {
  const size_t prefix = static_cast<size_t>(params_.no_repeat_ngram_size) - 1;
  if (tokens_.size() <= prefix) return;
  const auto last = tokens_.end() - static_cast<std::ptrdiff_t>(prefix);
  // The token after each earlier occurrence of the last n - 1 tokens.
  for (size_t i = prefix; i < tokens_.size(); ++i) {
    if (std::equal(last, tokens_.end(),
                   tokens_.begin() + static_cast<std::ptrdiff_t>(i - prefix))) {
      banned.push_back(tokens_[i]);
    }
  }
}

}  // namespace trireme::kernels
