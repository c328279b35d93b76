// SPDX-License-Identifier: Apache-2.0
// The next token of each row from its logits. Engine thread only.
//
// In order, for a row x of float32 logits (a NaN counts as -inf):
//   1  x += embedding_bias
//   2  x /= temperature + 1e-6                          not at temperature 1
//   3  each token of prompt or output:  x = x < 0 ? x * repetition_penalty : x / repetition_penalty
//      then x -= presence_penalty, then x -= count * frequency_penalty
//   4  -inf for end ids below min_tokens, for bad words, for tokens that repeat an n-gram
//   5  top_k = 1, or neither top_k nor top_p: the largest x
//      else keep the top_k largest; of those the fewest, largest first, whose share of the kept
//      probability reaches top_p; of those the ones with p >= min_p * p_max. Walk the kept tokens
//      in the order of their ids to the point u * (their probability) of the cumulative sum, with
//      u = PhiloxUniform(seed, place of the token in its sequence).
// Of equal values the lower id is the larger. When nothing is above -inf, token 0 is returned, and
// when no number is the largest of the given logits the row is marked.
//
// log_prob is ln softmax of x after step 4: what temperature and penalties made of the model's
// opinion, before filters. Probabilities in float32, their sums over kept tokens in float64.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/cpu_context.h"
#include "kernels/sampling_state.h"

namespace trireme::kernels {

struct SampleRow {
  const float* logits = nullptr;  // [vocab_size]
  const SamplingState* state = nullptr;
  // Results; the caller hands them to SamplingState::Append.
  TokenId token = 0;
  float log_prob = 0.0f;  // when state->log_probs()
  // The logits are all NaN or -inf, or reach +inf: the token means nothing.
  bool bad_logits = false;
};

struct SampleParams {
  std::span<SampleRow> rows;
  int64_t vocab_size = 0;
  std::byte* workspace = nullptr;  // SampleWorkspaceBytes, 64-byte aligned
};

// Whether the largest of `logits`, NaN apart, is no finite number.
bool LackFiniteMaximum(std::span<const float> logits);

int64_t SampleWorkspaceBytes(int64_t vocab_size, int num_threads);

void Sample(const SampleParams& params, CpuContext& context);
void SampleReference(const SampleParams& params);  // needs no workspace

}  // namespace trireme::kernels
