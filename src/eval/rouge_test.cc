// SPDX-License-Identifier: Apache-2.0
// Scores and stems against stored values of rouge-score and NLTK.
#include "eval/rouge.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "eval/porter_stemmer.h"
#include "tests/source_path.h"

namespace trireme::eval {
namespace {

constexpr double kTolerance = 1e-9;

nlohmann::json Cases() {
  std::ifstream file(SourcePath("tests/data/eval/rouge_cases.json"));
  return nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
}

void ExpectScores(const RougeScores& scores, const nlohmann::json& expected) {
  const std::pair<const char*, RougeScore> all[] = {{"rouge1", scores.rouge1},
                                                    {"rouge2", scores.rouge2},
                                                    {"rougeL", scores.rouge_l},
                                                    {"rougeLsum", scores.rouge_lsum}};
  for (const auto& [name, score] : all) {
    SCOPED_TRACE(name);
    EXPECT_NEAR(score.precision, expected[name][0].get<double>(), kTolerance);
    EXPECT_NEAR(score.recall, expected[name][1].get<double>(), kTolerance);
    EXPECT_NEAR(score.fmeasure, expected[name][2].get<double>(), kTolerance);
  }
}

TEST(RougeTest, ScoresEqualThoseOfRougeScore) {
  const nlohmann::json cases = Cases();
  ASSERT_GE(cases["cases"].size(), 30u);
  for (const nlohmann::json& c : cases["cases"]) {
    SCOPED_TRACE(c.dump());
    const auto target = c["target"].get<std::string>();
    const auto prediction = c["prediction"].get<std::string>();
    ExpectScores(ScoreRouge(target, prediction, /*use_stemmer=*/false), c["plain"]);
    ExpectScores(ScoreRouge(target, prediction, /*use_stemmer=*/true), c["stemmed"]);
  }
}

TEST(RougeTest, TakesTheBestTargetOfEachScore) {
  const nlohmann::json cases = Cases();
  for (const nlohmann::json& c : cases["multi"]) {
    const auto targets = c["targets"].get<std::vector<std::string>>();
    ExpectScores(ScoreRougeBest(targets, c["prediction"].get<std::string>(), true), c["stemmed"]);
  }
}

TEST(RougeTest, BytesThatAreNoTextSeparateWords) {
  const RougeScores scores = ScoreRouge("one\xfftwo\xe2\x84", "two \xc4one", false);
  EXPECT_EQ(scores.rouge1.fmeasure, 1.0);
  EXPECT_EQ(scores.rouge_l.fmeasure, 0.5);
}

TEST(PorterStemmerTest, StemsEqualThoseOfNltk) {
  const nlohmann::json cases = Cases();
  ASSERT_GE(cases["stems"].size(), 100u);
  for (const nlohmann::json& pair : cases["stems"]) {
    EXPECT_EQ(PorterStem(pair[0].get<std::string>()), pair[1].get<std::string>()) << pair[0];
  }
}

}  // namespace
}  // namespace trireme::eval
