// SPDX-License-Identifier: Apache-2.0
#include "eval/windows.h"

#include <algorithm>

namespace trireme::eval {
namespace {

using engine::LogitsWanted;

class Walker {
 public:
  Walker(std::span<SequenceRunner* const> runners, const ScoredTokenFn& on_scored)
      : runners_(runners), on_scored_(on_scored), pieces_(runners.size()), rows_(runners.size()) {}

  // The logits of a token give the next one its score: those of [first_scored - 1, end - 1) are
  // wanted, what lies before is read only, and the last token need not be read.
  Status Walk(size_t sample, std::span<const TokenId> tokens, const Window& window) {
    for (SequenceRunner* runner : runners_) runner->Restart();
    const size_t first_wanted = window.first_scored - 1;
    for (size_t begin = window.begin; begin + 1 < window.end;) {
      const bool wanted = begin >= first_wanted;
      const size_t end =
          std::min(begin + SequenceRunner::kPieceTokens, wanted ? window.end - 1 : first_wanted);
      TRIREME_RETURN_IF_ERROR(Read(tokens.subspan(begin, end - begin), wanted));
      for (size_t i = begin; wanted && i < end; ++i) {
        for (size_t r = 0; r < runners_.size(); ++r) {
          const auto vocab_size = static_cast<size_t>(runners_[r]->vocab_size());
          rows_[r] = pieces_[r].subspan((i - begin) * vocab_size, vocab_size);
        }
        TRIREME_RETURN_IF_ERROR(on_scored_(
            {.sample = sample, .place = i + 1, .token = tokens[i + 1], .logits = rows_}));
      }
      begin = end;
    }
    return OkStatus();
  }

 private:
  Status Read(std::span<const TokenId> tokens, bool wanted) {
    for (size_t r = 0; r < runners_.size(); ++r) {
      TRIREME_ASSIGN_OR_RETURN(
          pieces_[r], runners_[r]->Read(tokens, wanted ? LogitsWanted::kAll : LogitsWanted::kNone));
      const size_t expected = tokens.size() * static_cast<size_t>(runners_[r]->vocab_size());
      if (wanted && pieces_[r].size() != expected) {
        return Internal("{} logits came for {} tokens", pieces_[r].size(), tokens.size());
      }
    }
    return OkStatus();
  }

  const std::span<SequenceRunner* const> runners_;
  const ScoredTokenFn& on_scored_;
  std::vector<std::span<const float>> pieces_;  // logits of the piece, per runner
  std::vector<std::span<const float>> rows_;    // of one token
};

Status CheckTokens(std::span<SequenceRunner* const> runners, std::span<const TokenSample> samples,
                   const WindowOptions& options) {
  for (const SequenceRunner* runner : runners) {
    if (options.max_length > runner->max_seq_len()) {
      return InvalidArgument("windows of {} tokens, the engine takes {}", options.max_length,
                             runner->max_seq_len());
    }
    for (const TokenSample& sample : samples) {
      for (TokenId token : sample) {
        if (token >= 0 && token < runner->vocab_size()) continue;
        return InvalidArgument("token {} is not in the model's vocabulary of {}", token,
                               runner->vocab_size());
      }
    }
  }
  return OkStatus();
}

}  // namespace

int LongestOf(std::span<const TokenSample> samples) {
  size_t longest = 0;
  for (const TokenSample& sample : samples) longest = std::max(longest, sample.size());
  return static_cast<int>(longest);
}

Status CheckWindowOptions(const WindowOptions& options) {
  if (options.max_length < 2) {
    return InvalidArgument("--max_length {}: a window takes at least 2 tokens", options.max_length);
  }
  if (options.stride < 1 || options.stride > options.max_length) {
    return InvalidArgument("--stride {} must be from 1 to the window's {} tokens", options.stride,
                           options.max_length);
  }
  return OkStatus();
}

std::vector<Window> CutWindows(size_t num_tokens, const WindowOptions& options) {
  const auto stride = static_cast<size_t>(options.stride);
  std::vector<Window> windows;
  size_t scored_to = 0;
  for (size_t begin = 0; begin < num_tokens; begin += stride) {
    const size_t end = std::min(begin + static_cast<size_t>(options.max_length), num_tokens);
    const size_t first_scored = std::max(scored_to, begin + 1);
    if (first_scored < end) windows.push_back({begin, first_scored, end});
    scored_to = end;
    if (end == num_tokens) break;
  }
  return windows;
}

Status WalkWindows(std::span<SequenceRunner* const> runners, std::span<const TokenSample> samples,
                   const WindowOptions& options, const ScoredTokenFn& on_scored,
                   const EvalProgressFn& progress) {
  TRIREME_RETURN_IF_ERROR(CheckWindowOptions(options));
  TRIREME_RETURN_IF_ERROR(CheckTokens(runners, samples, options));
  std::vector<std::vector<Window>> windows;
  int64_t total = 0;
  for (const TokenSample& sample : samples) {
    total += static_cast<int64_t>(windows.emplace_back(CutWindows(sample.size(), options)).size());
  }
  Walker walker(runners, on_scored);
  int64_t done = 0;
  for (size_t i = 0; i < samples.size(); ++i) {
    for (const Window& window : windows[i]) {
      TRIREME_RETURN_IF_ERROR(walker.Walk(i, samples[i], window));
      if (progress) progress(++done, total);
    }
  }
  return OkStatus();
}

}  // namespace trireme::eval
