// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/philox.h"
#include "kernels/sampling.h"

namespace trireme::kernels {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// Steps 1 to 4.
std::vector<float> Process(const SampleRow& row, int64_t vocab_size) {
  const SamplingState& state = *row.state;
  const SamplingParams& p = state.params();
  std::vector<float> x(row.logits, row.logits + vocab_size);
  for (size_t i = 0; i < x.size(); ++i) {
    if (!state.bias().empty()) x[i] += state.bias()[i];
    if (p.temperature != 1.0f) x[i] /= p.temperature + 1e-6f;
    if (std::isnan(x[i])) x[i] = kMinusInfinity;
  }
  for (const SamplingState::SeenToken& seen : state.seen()) {
    float& value = x[static_cast<size_t>(seen.token)];
    value = value < 0 ? value * p.repetition_penalty : value / p.repetition_penalty;
    value -= p.presence_penalty;
    value -= static_cast<float>(seen.count) * p.frequency_penalty;
    if (std::isnan(value)) value = kMinusInfinity;
  }
  std::vector<TokenId> banned;
  state.CollectBanned(banned);
  for (TokenId token : banned) x[static_cast<size_t>(token)] = kMinusInfinity;
  return x;
}

struct Candidate {
  TokenId token = 0;
  double weight = 0.0;  // exp(x - max x)
};

// Tokens that survive the filters of step 5, by rising id.
std::vector<Candidate> Keep(const std::vector<float>& x, const SamplingState& state) {
  std::vector<TokenId> order(x.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<TokenId>(i);
  std::stable_sort(order.begin(), order.end(), [&](TokenId a, TokenId b) {
    return x[static_cast<size_t>(a)] > x[static_cast<size_t>(b)];
  });
  const SamplingParams& p = state.params();
  if (p.top_k > 0 && static_cast<size_t>(p.top_k) < order.size()) {
    order.resize(static_cast<size_t>(p.top_k));
  }
  const float max = x[static_cast<size_t>(order[0])];
  std::vector<Candidate> kept;
  double total = 0.0;
  for (TokenId token : order) {
    kept.push_back({token, std::exp(static_cast<double>(x[static_cast<size_t>(token)] - max))});
    total += kept.back().weight;
  }
  if (state.top_p() > 0.0f && state.top_p() < 1.0f) {
    double sum = 0.0;
    size_t count = 0;
    while (count < kept.size() && sum < state.top_p() * total) sum += kept[count++].weight;
    kept.resize(std::max<size_t>(count, 1));
  }
  std::erase_if(kept, [&](const Candidate& c) { return c.weight < std::min(p.min_p, 1.0f); });
  std::sort(kept.begin(), kept.end(),
            [](const Candidate& a, const Candidate& b) { return a.token < b.token; });
  return kept;
}

TokenId Draw(const std::vector<Candidate>& kept, double u) {
  double total = 0.0;
  for (const Candidate& c : kept) total += c.weight;
  double sum = 0.0;
  for (const Candidate& c : kept) {
    sum += c.weight;
    if (sum > u * total) return c.token;
  }
  return kept.back().token;
}

}  // namespace

bool LackFiniteMaximum(std::span<const float> logits) {
  float largest = kMinusInfinity;
  for (float value : logits) {
    if (value > largest) largest = value;  // false for NaN
  }
  return !std::isfinite(largest);
}

void SampleReference(const SampleParams& params) {
  for (SampleRow& row : params.rows) {
    const SamplingState& state = *row.state;
    const std::vector<float> x = Process(row, params.vocab_size);
    const auto largest = std::max_element(x.begin(), x.end());
    row.token = static_cast<TokenId>(largest - x.begin());
    row.log_prob = kMinusInfinity;
    row.bad_logits = false;
    if (!std::isfinite(*largest)) {
      row.bad_logits = LackFiniteMaximum({row.logits, static_cast<size_t>(params.vocab_size)});
      continue;
    }
    if (!state.is_greedy()) {
      row.token = Draw(Keep(x, state), PhiloxUniform(state.params().seed, state.position()));
    }
    double sum = 0.0;
    for (float value : x) sum += std::exp(static_cast<double>(value - *largest));
    row.log_prob = static_cast<float>(x[static_cast<size_t>(row.token)] - *largest - std::log(sum));
  }
}

}  // namespace trireme::kernels
