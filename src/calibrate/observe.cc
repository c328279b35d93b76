// SPDX-License-Identifier: Apache-2.0
#include "calibrate/observe.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "engine/session.h"

namespace trireme::calibrate {
namespace {

using engine::LogitsWanted;
using engine::Session;

int LongestOf(std::span<const TokenSample> samples) {
  size_t longest = 0;
  for (const TokenSample& sample : samples) longest = std::max(longest, sample.size());
  return static_cast<int>(longest);
}

StatusOr<std::unique_ptr<Session>> LoadSession(const std::string& engine_dir, int max_seq_len,
                                               engine::LinearObserver observer) {
  engine::SessionOptions options;
  options.limits = {.max_batch_size = 1, .max_num_tokens = max_seq_len, .max_seq_len = max_seq_len};
  options.observe_linear = std::move(observer);
  return Session::Load(engine_dir, options);
}

// Runs a sample as the one sequence of slot 0. Its blocks are 1, 2, ...: 0 is never handed out.
Status RunSample(Session& session, const TokenSample& sample, LogitsWanted logits) {
  engine::StepInput step;
  step.rows.push_back({.slot = 0, .tokens = sample, .context_len = 0, .logits = logits});
  const int block_size = session.kv_layout().block_size;
  const int blocks = (static_cast<int>(sample.size()) + block_size - 1) / block_size;
  if (blocks >= session.num_kv_blocks()) {
    return ResourceExhausted("no memory for the keys and values of {} tokens", sample.size());
  }
  for (int i = 0; i < blocks; ++i) step.block_table_deltas.push_back({0, i, i + 1});
  return session.Forward(step);
}

// -ln p of `token` among the logits.
double NegativeLogLikelihood(std::span<const float> logits, TokenId token) {
  const float largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0.0;
  for (float logit : logits) sum += std::exp(static_cast<double>(logit - largest));
  return std::log(sum) - static_cast<double>(logits[static_cast<size_t>(token)] - largest);
}

}  // namespace

StatusOr<std::map<std::string, float>> LargestInputs(const std::string& engine_dir,
                                                     std::span<const TokenSample> samples,
                                                     const SampleProgressFn& progress) {
  std::map<std::string, float> largest;
  const auto observe = [&](std::string_view name, const float* x, int64_t stride, int64_t rows,
                           int64_t size) {
    float& of_layer = largest[std::string(name)];
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t i = 0; i < size; ++i) {
        const float value = std::fabs(x[row * stride + i]);
        if (!(value <= of_layer)) of_layer = value;  // a NaN stays
      }
    }
  };
  TRIREME_ASSIGN_OR_RETURN(const std::unique_ptr<Session> session,
                           LoadSession(engine_dir, LongestOf(samples), observe));
  for (size_t i = 0; i < samples.size(); ++i) {
    TRIREME_RETURN_IF_ERROR(RunSample(*session, samples[i], LogitsWanted::kLast));
    if (progress) progress(static_cast<int64_t>(i) + 1, static_cast<int64_t>(samples.size()));
  }
  for (const auto& [name, value] : largest) {
    if (std::isfinite(value)) continue;
    return InvalidArgument("the input of layer '{}' is not finite on the calibration text", name);
  }
  return largest;
}

StatusOr<Perplexity> MeasurePerplexity(const std::string& engine_dir,
                                       std::span<const TokenSample> samples,
                                       const SampleProgressFn& progress) {
  TRIREME_ASSIGN_OR_RETURN(const std::unique_ptr<Session> session,
                           LoadSession(engine_dir, LongestOf(samples), {}));
  Perplexity result;
  double sum = 0.0;
  for (size_t i = 0; i < samples.size(); ++i) {
    const TokenSample& sample = samples[i];
    TRIREME_RETURN_IF_ERROR(RunSample(*session, sample, LogitsWanted::kAll));
    TRIREME_ASSIGN_OR_RETURN(const std::span<const float> logits, session->Logits(0));
    const size_t vocab_size = logits.size() / sample.size();
    for (size_t t = 0; t + 1 < sample.size(); ++t) {
      const std::span<const float> row = logits.subspan(t * vocab_size, vocab_size);
      sum += NegativeLogLikelihood(row, sample[t + 1]);
      result.best.push_back(
          static_cast<TokenId>(std::max_element(row.begin(), row.end()) - row.begin()));
    }
    result.num_tokens += static_cast<int64_t>(sample.size()) - 1;
    if (progress) progress(static_cast<int64_t>(i) + 1, static_cast<int64_t>(samples.size()));
  }
  if (result.num_tokens == 0) return InvalidArgument("the held-out text has no token to score");
  result.value = std::exp(sum / static_cast<double>(result.num_tokens));
  return result;
}

}  // namespace trireme::calibrate
