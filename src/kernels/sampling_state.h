// SPDX-License-Identifier: Apache-2.0
// What one slot must remember to sample its next token and to stop. Engine thread only.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "trireme/request.h"

namespace trireme::kernels {

// What a request says about sampling. Everything is copied by Reset.
struct SamplingSetup {
  SamplingParams params;
  std::span<const TokenId> prompt;
  std::span<const TokenId> generated;  // before a pause, in order
  std::span<const TokenId> end_ids;
  int max_tokens = 0;  // new tokens in total, those in `generated` included
  std::span<const std::vector<TokenId>> bad_words;
  std::span<const std::vector<TokenId>> stop_words;
  std::span<const float> embedding_bias;  // empty or [vocab_size]
  bool log_probs = false;
};

class SamplingState {
 public:
  struct SeenToken {
    TokenId token = 0;
    int count = 0;
  };

  // Forgets what was there. Prompt and generated ids must be below vocab_size.
  void Reset(const SamplingSetup& setup, int vocab_size);

  // Takes the next token; says why the sequence ends with it, if it does.
  FinishReason Append(TokenId token, float log_prob);

  // Appends to `banned` every token that may not come next, some perhaps twice: end ids before
  // min_tokens, last tokens of bad words whose other tokens were just written, tokens that would
  // repeat an n-gram. All are below vocab_size.
  void CollectBanned(std::vector<TokenId>& banned) const;

  const SamplingParams& params() const { return params_; }
  // top_p after the decay so far.
  float top_p() const { return top_p_; }
  bool log_probs() const { return log_probs_; }
  bool has_penalties() const { return has_penalties_; }
  // True when CollectBanned may have something to say.
  bool has_bans() const;
  bool is_greedy() const {
    return params_.top_k == 1 || (params_.top_k <= 0 && params_.top_p <= 0.0f);
  }
  std::span<const float> bias() const { return bias_; }
  // Distinct tokens of prompt and output; empty without penalties.
  std::span<const SeenToken> seen() const { return seen_; }
  std::span<const TokenId> generated() const {
    return std::span<const TokenId>(tokens_).subspan(num_prompt_);
  }
  // Place of the next token in its sequence: the counter of its noise.
  uint64_t position() const { return tokens_.size(); }
  float cum_log_prob() const { return cum_log_prob_; }

 private:
  void CountSeen(TokenId token);
  void CollectRepeatedNgrams(std::vector<TokenId>& banned) const;
  bool EndsWith(std::span<const TokenId> tail, size_t first) const;

  SamplingParams params_;
  int vocab_size_ = 0;
  int max_tokens_ = 0;
  bool log_probs_ = false;
  bool has_penalties_ = false;
  float top_p_ = 0.0f;
  float cum_log_prob_ = 0.0f;
  size_t num_prompt_ = 0;
  std::vector<TokenId> tokens_;  // prompt, then generated
  std::vector<TokenId> end_ids_;
  std::vector<std::vector<TokenId>> bad_words_;
  std::vector<std::vector<TokenId>> stop_words_;
  std::vector<float> bias_;
  std::vector<SeenToken> seen_;
  std::vector<int32_t> seen_index_;  // [vocab_size] place in seen_, or -1; empty without penalties
};

}  // namespace trireme::kernels
