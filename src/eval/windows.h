// SPDX-License-Identifier: Apache-2.0
// Strided windows over texts of tokens, and a walk that shows the logits of each scored token from
// one engine or from several at the same place.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/status.h"
#include "eval/sequence_runner.h"
#include "trireme/request.h"

namespace trireme::eval {

using TokenSample = std::vector<TokenId>;
using EvalProgressFn = std::function<void(int64_t done, int64_t total)>;

// Tokens of the longest sample.
int LongestOf(std::span<const TokenSample> samples);

struct WindowOptions {
  int max_length = 0;  // tokens of a window, at least 2
  int stride = 0;      // from the beginning of one to that of the next, 1 to max_length
};
Status CheckWindowOptions(const WindowOptions& options);

// Tokens [begin, end) are read, those of [first_scored, end) scored.
struct Window {
  size_t begin = 0;
  size_t first_scored = 0;
  size_t end = 0;
};

// Every token is scored once, with as much before it as its first window holds; the first token of
// the text, and with stride == max_length of each window, has nothing before it and is not scored.
std::vector<Window> CutWindows(size_t num_tokens, const WindowOptions& options);

// A scored token: `place` in `sample`, and the logits before it, of each runner, float32
// [vocab_size]; valid during the call.
struct ScoredToken {
  size_t sample = 0;
  size_t place = 0;
  TokenId token = 0;
  std::span<const std::span<const float>> logits;
};
using ScoredTokenFn = std::function<Status(const ScoredToken& scored)>;

// All windows of all samples, in order. Token ids outside a runner's vocabulary are refused.
Status WalkWindows(std::span<SequenceRunner* const> runners, std::span<const TokenSample> samples,
                   const WindowOptions& options, const ScoredTokenFn& on_scored,
                   const EvalProgressFn& progress);

}  // namespace trireme::eval
