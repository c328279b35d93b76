// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/sampling_setup.h"

#include <algorithm>
#include <cstddef>

namespace trireme::cuda {
namespace {

// Length and ids of each word; returns how many words there are (empty ones do not count).
int32_t AppendWords(std::span<const std::vector<TokenId>> words, std::vector<int32_t>& target) {
  int32_t count = 0;
  for (const std::vector<TokenId>& word : words) {
    if (word.empty()) continue;
    target.push_back(static_cast<int32_t>(word.size()));
    target.insert(target.end(), word.begin(), word.end());
    ++count;
  }
  return count;
}

// As SamplingState::Append leaves it after `generated`.
float DecayedTopP(const SamplingParams& p, std::span<const TokenId> generated) {
  float top_p = p.top_p;
  for (TokenId token : generated) {
    top_p = token == p.top_p_reset_id
                ? p.top_p
                : std::max(top_p * p.top_p_decay, std::min(p.top_p, p.top_p_min));
  }
  return top_p;
}

}  // namespace

bool StageSlot(const kernels::SamplingSetup& setup, int slot, const float* bias, int max_seq_len,
               int max_words, std::vector<StagedSlot>& staged, std::vector<int32_t>& words) {
  std::vector<int32_t> own(setup.end_ids.begin(), setup.end_ids.end());
  StagedSlot entry;
  SlotSampling& state = entry.state;
  state.num_end_ids = static_cast<int32_t>(own.size());
  state.num_stop_words = AppendWords(setup.stop_words, own);
  state.bad_words_begin = static_cast<int32_t>(own.size());
  state.num_bad_words = AppendWords(setup.bad_words, own);
  const size_t num_tokens = setup.prompt.size() + setup.generated.size();
  if (num_tokens > static_cast<size_t>(max_seq_len)) return false;
  if (own.size() > static_cast<size_t>(max_words)) return false;

  const SamplingParams& p = setup.params;
  state.seed = p.seed;
  state.temperature = p.temperature;
  state.top_p = DecayedTopP(p, setup.generated);
  state.initial_top_p = p.top_p;
  state.top_p_decay = p.top_p_decay;
  state.top_p_min = p.top_p_min;
  state.min_p = p.min_p;
  state.repetition_penalty = p.repetition_penalty;
  state.presence_penalty = p.presence_penalty;
  state.frequency_penalty = p.frequency_penalty;
  state.top_k = p.top_k;
  state.top_p_reset_id = p.top_p_reset_id;
  state.min_tokens = p.min_tokens;
  state.max_tokens = setup.max_tokens;
  state.no_repeat_ngram_size = p.no_repeat_ngram_size;
  state.num_prompt = static_cast<int32_t>(setup.prompt.size());
  state.num_tokens = static_cast<int32_t>(num_tokens);
  state.log_probs = setup.log_probs ? 1 : 0;
  state.penalties =
      p.repetition_penalty != 1.0f || p.presence_penalty != 0.0f || p.frequency_penalty != 0.0f ? 1
                                                                                                : 0;
  state.bias = bias;

  entry.slot = slot;
  entry.num_words = static_cast<int32_t>(own.size());
  entry.tokens_begin = static_cast<int32_t>(words.size());
  words.insert(words.end(), setup.prompt.begin(), setup.prompt.end());
  words.insert(words.end(), setup.generated.begin(), setup.generated.end());
  entry.words_begin = static_cast<int32_t>(words.size());
  words.insert(words.end(), own.begin(), own.end());
  staged.push_back(entry);
  return true;
}

}  // namespace trireme::cuda
