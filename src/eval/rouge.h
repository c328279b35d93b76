// SPDX-License-Identifier: Apache-2.0
// ROUGE-1, -2, -L and -Lsum, number for number as the rouge-score package computes them: lower
// case, words of a-z and 0-9, optional Porter stems of words longer than three. Pure functions.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace trireme::eval {

struct RougeScore {
  double precision = 0.0;
  double recall = 0.0;
  double fmeasure = 0.0;
};

struct RougeScores {
  RougeScore rouge1;
  RougeScore rouge2;
  RougeScore rouge_l;
  RougeScore rouge_lsum;  // sentences are the lines of the text
};

RougeScores ScoreRouge(std::string_view target, std::string_view prediction, bool use_stemmer);

// Each score against the target where its F-measure is highest, the first one of equals. Needs at
// least one target.
RougeScores ScoreRougeBest(std::span<const std::string> targets, std::string_view prediction,
                           bool use_stemmer);

}  // namespace trireme::eval
