// SPDX-License-Identifier: Apache-2.0
#include "eval/logit_scores.h"

#include <algorithm>
#include <cmath>

namespace trireme::eval {
namespace {

// ln of the sum of exp(logit).
double LogSumExp(std::span<const float> logits) {
  const float largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0.0;
  for (float logit : logits) sum += std::exp(static_cast<double>(logit - largest));
  return std::log(sum) + static_cast<double>(largest);
}

}  // namespace

double NegativeLogLikelihood(std::span<const float> logits, TokenId token) {
  return LogSumExp(logits) - static_cast<double>(logits[static_cast<size_t>(token)]);
}

TokenId Likeliest(std::span<const float> logits) {
  return static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

double KlDivergence(std::span<const float> reference, std::span<const float> other) {
  const double log_p_sum = LogSumExp(reference);
  const double log_q_sum = LogSumExp(other);
  double divergence = 0.0;
  for (size_t i = 0; i < reference.size(); ++i) {
    const double log_p = static_cast<double>(reference[i]) - log_p_sum;
    const double p = std::exp(log_p);
    if (p > 0.0) divergence += p * (log_p - (static_cast<double>(other[i]) - log_q_sum));
  }
  return divergence;
}

}  // namespace trireme::eval
