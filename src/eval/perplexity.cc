// SPDX-License-Identifier: Apache-2.0
#include "eval/perplexity.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "eval/logit_scores.h"

namespace trireme::eval {
namespace {

Status AddToken(std::span<const float> logits, const ScoredToken& scored, Perplexity& result) {
  const double loss = NegativeLogLikelihood(logits, scored.token);
  if (!std::isfinite(loss)) {
    return InvalidArgument("the logits before token {} of text {} are not finite", scored.place,
                           scored.sample);
  }
  result.sum += loss;
  result.best.push_back(Likeliest(logits));
  ++result.num_tokens;
  return OkStatus();
}

Status Finish(Perplexity& result) {
  if (result.num_tokens == 0) return InvalidArgument("the text has no token to score");
  result.value = std::exp(result.sum / static_cast<double>(result.num_tokens));
  return OkStatus();
}

// Gathers two rows of logits, token by token.
class Comparer {
 public:
  Status Add(std::span<const float> reference, std::span<const float> candidate,
             const ScoredToken& scored) {
    TRIREME_RETURN_IF_ERROR(AddToken(reference, scored, result_.reference));
    TRIREME_RETURN_IF_ERROR(AddToken(candidate, scored, result_.candidate));
    const double kl = KlDivergence(reference, candidate);
    kl_sum_ += kl;
    result_.max_kl = std::max(result_.max_kl, kl);
    return OkStatus();
  }

  StatusOr<Comparison> Take() {
    TRIREME_RETURN_IF_ERROR(Finish(result_.reference));
    TRIREME_RETURN_IF_ERROR(Finish(result_.candidate));
    result_.mean_kl = kl_sum_ / static_cast<double>(result_.reference.num_tokens);
    result_.same_best = ShareOfEqual(result_.reference.best, result_.candidate.best);
    return std::move(result_);
  }

 private:
  Comparison result_;
  double kl_sum_ = 0.0;
};

// Rows of stored logits.
class StoredLogits {
 public:
  explicit StoredLogits(const TensorView& tensor) : tensor_(tensor) {
    const Shape& shape = tensor.shape;
    num_tokens_ = shape[shape.rank() - 2];
    row_.resize(static_cast<size_t>(shape[shape.rank() - 1]));
  }

  static Status Check(const TensorView& tensor, int vocab_size,
                      std::span<const TokenSample> samples) {
    const Shape& shape = tensor.shape;
    if (!IsFloat(tensor.dtype) || (shape.rank() != 2 && shape.rank() != 3)) {
      return InvalidArgument(
          "the stored logits are {} {}; expected floats [samples, tokens, vocab] or [tokens, "
          "vocab]",
          DTypeName(tensor.dtype), shape.ToString());
    }
    if (shape[shape.rank() - 1] != vocab_size) {
      return InvalidArgument("the stored logits have {} columns, the engine's vocabulary {}",
                             shape[shape.rank() - 1], vocab_size);
    }
    const int64_t num_samples = shape.rank() == 3 ? shape[0] : 1;
    if (num_samples != static_cast<int64_t>(samples.size())) {
      return InvalidArgument("logits of {} texts are stored, {} texts are given", num_samples,
                             samples.size());
    }
    for (size_t i = 0; i < samples.size(); ++i) {
      if (static_cast<int64_t>(samples[i].size()) - 1 <= shape[shape.rank() - 2]) continue;
      return InvalidArgument("text {} has {} tokens, the stored logits {} rows", i,
                             samples[i].size(), shape[shape.rank() - 2]);
    }
    return OkStatus();
  }

  // The row before token `place`.
  std::span<const float> Before(size_t sample, size_t place) {
    const auto row = static_cast<int64_t>(sample) * num_tokens_ + static_cast<int64_t>(place) - 1;
    const auto size = static_cast<int64_t>(row_.size());
    ConvertFloats(tensor_.dtype, tensor_.data + DTypeBytes(tensor_.dtype, row * size),
                  DType::kFloat32, reinterpret_cast<std::byte*>(row_.data()), size);
    return row_;
  }

 private:
  const TensorView& tensor_;
  int64_t num_tokens_ = 0;
  std::vector<float> row_;
};

}  // namespace

double ShareOfEqual(std::span<const TokenId> a, std::span<const TokenId> b) {
  int64_t equal = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) equal += a[i] == b[i] ? 1 : 0;
  return static_cast<double>(equal) / static_cast<double>(std::max<size_t>(a.size(), 1));
}

StatusOr<Perplexity> MeasurePerplexity(SequenceRunner& runner, std::span<const TokenSample> samples,
                                       const WindowOptions& windows,
                                       const EvalProgressFn& progress) {
  Perplexity result;
  const std::array runners = {&runner};
  const auto add = [&](const ScoredToken& scored) {
    return AddToken(scored.logits[0], scored, result);
  };
  TRIREME_RETURN_IF_ERROR(WalkWindows(runners, samples, windows, add, progress));
  TRIREME_RETURN_IF_ERROR(Finish(result));
  return result;
}

StatusOr<Comparison> CompareEngines(SequenceRunner& reference, SequenceRunner& candidate,
                                    std::span<const TokenSample> samples,
                                    const WindowOptions& windows, const EvalProgressFn& progress) {
  if (reference.vocab_size() != candidate.vocab_size()) {
    return InvalidArgument("the engines' vocabularies differ: {} and {} tokens",
                           reference.vocab_size(), candidate.vocab_size());
  }
  Comparer comparer;
  const std::array runners = {&reference, &candidate};
  const auto add = [&](const ScoredToken& scored) {
    return comparer.Add(scored.logits[0], scored.logits[1], scored);
  };
  TRIREME_RETURN_IF_ERROR(WalkWindows(runners, samples, windows, add, progress));
  return comparer.Take();
}

StatusOr<Comparison> CompareWithLogits(const TensorView& reference, SequenceRunner& candidate,
                                       std::span<const TokenSample> samples,
                                       const EvalProgressFn& progress) {
  TRIREME_RETURN_IF_ERROR(StoredLogits::Check(reference, candidate.vocab_size(), samples));
  StoredLogits stored(reference);
  Comparer comparer;
  const std::array runners = {&candidate};
  const auto add = [&](const ScoredToken& scored) {
    return comparer.Add(stored.Before(scored.sample, scored.place), scored.logits[0], scored);
  };
  const int length = candidate.max_seq_len();
  for (const TokenSample& sample : samples) {
    if (sample.size() <= static_cast<size_t>(length)) continue;
    return InvalidArgument("a text has {} tokens, the engine takes {}", sample.size(), length);
  }
  TRIREME_RETURN_IF_ERROR(WalkWindows(runners, samples, {length, length}, add, progress));
  return comparer.Take();
}

}  // namespace trireme::eval
