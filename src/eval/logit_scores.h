// SPDX-License-Identifier: Apache-2.0
// What a row of logits says: about one token, and beside another row. Pure functions; natural
// logarithms, sums in double.
#pragma once

#include <span>

#include "trireme/request.h"

namespace trireme::eval {

// -ln p(token).
double NegativeLogLikelihood(std::span<const float> logits, TokenId token);

// The token of the largest logit; of equals the lowest.
TokenId Likeliest(std::span<const float> logits);

// KL divergence of `other` from `reference`: sum of p ln(p / q). Both have one size.
double KlDivergence(std::span<const float> reference, std::span<const float> other);

}  // namespace trireme::eval
