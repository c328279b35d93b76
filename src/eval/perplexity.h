// SPDX-License-Identifier: Apache-2.0
// How well engines predict text: perplexity of one, and how far two lie apart. One call at a time
// per runner.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "eval/windows.h"
#include "tensor/tensor_view.h"

namespace trireme::eval {

struct Perplexity {
  double value = 0.0;         // exp of the mean negative log likelihood
  double sum = 0.0;           // of the negative log likelihoods
  std::vector<TokenId> best;  // the likeliest token at each scored place
  int64_t num_tokens = 0;     // scored
};

// A text without a token to score, and logits that are no finite numbers, are errors.
StatusOr<Perplexity> MeasurePerplexity(SequenceRunner& runner, std::span<const TokenSample> samples,
                                       const WindowOptions& windows,
                                       const EvalProgressFn& progress);

struct Comparison {
  Perplexity reference;
  Perplexity candidate;
  double mean_kl = 0.0;  // of the candidate from the reference, per scored token, in nats
  double max_kl = 0.0;
  double same_best = 0.0;  // share of scored places where both find the same token likeliest
};

StatusOr<Comparison> CompareEngines(SequenceRunner& reference, SequenceRunner& candidate,
                                    std::span<const TokenSample> samples,
                                    const WindowOptions& windows, const EvalProgressFn& progress);

// `reference`: logits of a float dtype, [samples, tokens, vocab_size] or, for one sample, [tokens,
// vocab_size]; rows beyond a sample are not read. Each sample is one window.
StatusOr<Comparison> CompareWithLogits(const TensorView& reference, SequenceRunner& candidate,
                                       std::span<const TokenSample> samples,
                                       const EvalProgressFn& progress);

// Share of places where two lists agree; 0 where there are none.
double ShareOfEqual(std::span<const TokenId> a, std::span<const TokenId> b);

}  // namespace trireme::eval
