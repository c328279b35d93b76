// SPDX-License-Identifier: Apache-2.0
// Requests and results of the executor, in token ids. Plain data.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "trireme/status.h"

namespace trireme {

using TokenId = int32_t;
using RequestId = uint64_t;

// How the next token is chosen. Order: bias, temperature, repetition, presence, frequency, minimum
// length, bad words and repeated n-grams, then top-k, top-p, min-p. Prompt tokens count as seen.
struct SamplingParams {
  int top_k = 0;       // 0: no top-k; 1: greedy
  float top_p = 0.0f;  // 0 with top_k 0: greedy; (0, 1]: nucleus
  float min_p = 0.0f;  // mask tokens with p < min_p * p_max
  float temperature = 1.0f;
  uint64_t seed = 0;  // noise is Philox(seed, position): equal seeds repeat
  float repetition_penalty = 1.0f;
  float presence_penalty = 0.0f;
  float frequency_penalty = 0.0f;
  int min_tokens = 0;            // the end id is masked until this many tokens are generated
  int no_repeat_ngram_size = 0;  // 0: off
  float top_p_decay = 1.0f;      // after each token p <- max(p * decay, top_p_min) ...
  float top_p_min = 1e-6f;
  TokenId top_p_reset_id = -1;   // ... except that this token sets p back to top_p
  int num_return_sequences = 1;  // independent runs with seeds seed, seed + 1, ...
  int beam_width = 1;            // more than 1 is refused until beam search exists
};

// What a result carries besides the tokens.
struct OutputConfig {
  bool return_log_probs = false;
  bool return_context_logits = false;
  bool return_generation_logits = false;
  bool exclude_input_from_output = true;
};

struct Request {
  std::vector<TokenId> prompt;
  int max_tokens = 0;  // new tokens, at least 1; more than max_seq_len leaves is refused
  bool streaming = false;
  SamplingParams sampling;
  OutputConfig output;
  std::optional<TokenId> end_id;       // unset: never stops at an end token
  std::vector<TokenId> extra_end_ids;  // further tokens that end a sequence as end_id does
  std::optional<TokenId> pad_id;
  std::vector<std::vector<TokenId>> bad_words;
  std::vector<std::vector<TokenId>> stop_words;
  std::vector<float> embedding_bias;  // empty or [vocab_size], added to the logits
  float priority = 0.5f;              // larger runs first among the waiting
  int64_t timeout_ms = 0;             // 0: none; else TIMED_OUT with the tokens so far
};

enum class FinishReason { kNotFinished, kEndId, kStopWords, kLength, kTimedOut, kCancelled };
std::string FinishReasonName(FinishReason reason);  // "NOT_FINISHED", "END_ID", ...

// When the tokens of a sequence were made, read off the steady clock where the engine reads a step
// back; whoever takes a response late sees the same times. The epoch stands for "not yet".
struct TokenTimes {
  using Time = std::chrono::steady_clock::time_point;
  Time arrival;  // the request was accepted
  Time first;
  Time last;  // of the tokens so far
};

// One response of a request: with streaming the tokens since the last response, else all of them.
// A request that was accepted gets exactly one final response.
struct Response {
  RequestId request_id = 0;
  int sequence_index = 0;  // below num_return_sequences
  Status error;            // not OK: final, and the fields below hold what was reached before
  bool is_sequence_final = false;
  bool is_final = false;  // of the whole request
  FinishReason finish_reason = FinishReason::kNotFinished;
  // Never the end token. A stop word belongs to the tokens. Without exclude_input_from_output the
  // first response begins with the prompt, which has no log probabilities.
  std::vector<TokenId> tokens;
  std::vector<float> log_probs;  // one for each generated token of `tokens`
  float cum_log_prob = 0.0f;     // of all tokens generated so far, when log probs are asked for
  // Row-major float32 [rows, vocab_size]; context logits come with the first response, generation
  // logits with the tokens they chose.
  std::vector<float> context_logits;
  std::vector<float> generation_logits;
  int num_prompt_tokens = 0;
  int num_cached_tokens = 0;  // prompt tokens found in the prefix cache
  TokenTimes times;
};

}  // namespace trireme
