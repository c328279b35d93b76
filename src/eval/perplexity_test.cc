// SPDX-License-Identifier: Apache-2.0
// The demo model's score of its own sample stories, against transformers; windows by hand.
#include "eval/perplexity.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "convert/demo_testing.h"
#include "eval/logit_scores.h"
#include "formats/test_files.h"
#include "trireme/tokenizer.h"

namespace trireme::eval {
namespace {

using ::testing::HasSubstr;

TokenSample DemoTokens() {
  const auto tokenizer = Tokenizer::Load(convert::kDemoModel);
  return (*tokenizer)->Encode(convert::DemoStories(), /*add_special_tokens=*/true).value();
}

TEST(WindowsTest, ScoreEveryTokenOnceButTheFirst) {
  for (int length : {2, 3, 5, 8}) {
    for (int stride = 1; stride < length; ++stride) {
      for (size_t n = 0; n < 20; ++n) {
        size_t next = 1;
        for (const Window& w : CutWindows(n, {length, stride})) {
          EXPECT_EQ(w.first_scored, next);
          EXPECT_GT(w.first_scored, w.begin);
          EXPECT_LE(w.end - w.begin, static_cast<size_t>(length));
          next = w.end;
        }
        EXPECT_EQ(next, std::max<size_t>(n, 1));
      }
    }
  }
  // Side by side each window has a token with nothing before it.
  const std::vector<Window> windows = CutWindows(10, {5, 5});
  ASSERT_EQ(windows.size(), 2u);
  EXPECT_EQ(windows[1].first_scored, 6u);
}

TEST(LogitScoresTest, AreWhatTheFormulasSay) {
  const std::vector<float> p = {std::log(0.5f), std::log(0.25f), std::log(0.25f)};
  const std::vector<float> q = {3.0f + std::log(0.25f), 3.0f + std::log(0.5f),
                                3.0f + std::log(0.25f)};
  EXPECT_NEAR(NegativeLogLikelihood(q, 1), std::log(2.0), 1e-6);
  EXPECT_EQ(Likeliest(p), 0);
  EXPECT_NEAR(KlDivergence(p, q), 0.25 * std::log(2.0), 1e-6);
  EXPECT_NEAR(KlDivergence(p, p), 0.0, 1e-12);
}

class DemoPerplexityTest : public ::testing::Test {
 protected:
  const TestFolder folder_;
  const std::vector<TokenSample> samples_ = {DemoTokens()};
};

// transformers 5.23.0 with torch 2.15.0, float32 on the published bfloat16 weights.
TEST_F(DemoPerplexityTest, EqualsThatOfTransformers) {
  ASSERT_EQ(samples_[0].size(), 1855u);
  StatusOr<SequenceRunner> runner =
      SequenceRunner::Load(convert::DemoEngine(folder_, "float32"), {.max_seq_len = 300});
  ASSERT_TRUE(runner.ok()) << runner.status().message();
  const auto strided = MeasurePerplexity(*runner, samples_, {256, 128}, {});
  ASSERT_TRUE(strided.ok()) << strided.status().message();
  EXPECT_EQ(strided->num_tokens, 1854);
  EXPECT_NEAR(strided->value, 3.86955623, 3.86955623 * 1e-4);
  const auto apart = MeasurePerplexity(*runner, samples_, {300, 300}, {});
  ASSERT_TRUE(apart.ok());
  EXPECT_EQ(apart->num_tokens, 1848);
  EXPECT_NEAR(apart->value, 4.32548340, 4.32548340 * 1e-4);
  EXPECT_THAT(std::string(MeasurePerplexity(*runner, samples_, {301, 1}, {}).status().message()),
              HasSubstr("301"));
  EXPECT_FALSE(MeasurePerplexity(*runner, {}, {256, 128}, {}).ok());
  EXPECT_FALSE(MeasurePerplexity(*runner, std::vector<TokenSample>{{1, 8192}}, {4, 4}, {}).ok());
}

TEST_F(DemoPerplexityTest, RefusesLengthsBeyondTheModel) {
  const auto runner =
      SequenceRunner::Load(convert::DemoEngine(folder_, "bfloat16"), {.max_seq_len = 1025});
  ASSERT_FALSE(runner.ok());
  EXPECT_THAT(std::string(runner.status().message()), HasSubstr("1024 positions"));
}

TEST_F(DemoPerplexityTest, ComparesEnginesAndStoredLogits) {
  auto exact = SequenceRunner::Load(convert::DemoEngine(folder_, "float32"), {.max_seq_len = 128});
  auto rounded =
      SequenceRunner::Load(convert::DemoEngine(folder_, "bfloat16"), {.max_seq_len = 128});
  ASSERT_TRUE(exact.ok() && rounded.ok());
  const std::vector<TokenSample> one = {
      TokenSample(samples_[0].begin(), samples_[0].begin() + 128)};
  const auto compared = CompareEngines(*exact, *rounded, one, {128, 128}, {});
  ASSERT_TRUE(compared.ok()) << compared.status().message();
  EXPECT_GT(compared->mean_kl, 0.0);
  EXPECT_LT(compared->mean_kl, 0.01);
  EXPECT_GE(compared->max_kl, compared->mean_kl);
  EXPECT_GT(compared->same_best, 0.9);

  // The same through stored logits of the first engine.
  HostTensor stored(DType::kFloat32, Shape({1, 127, 8192}));
  const std::array runners = {&*exact};
  const auto store = [&](const ScoredToken& scored) {
    std::copy(scored.logits[0].begin(), scored.logits[0].end(),
              stored.as<float>() + (scored.place - 1) * 8192);
    return OkStatus();
  };
  ASSERT_TRUE(WalkWindows(runners, one, {128, 128}, store, {}).ok());
  const auto again = CompareWithLogits(stored.view(), *rounded, one, {});
  ASSERT_TRUE(again.ok()) << again.status().message();
  EXPECT_DOUBLE_EQ(again->mean_kl, compared->mean_kl);
  EXPECT_DOUBLE_EQ(again->reference.value, compared->reference.value);
  EXPECT_DOUBLE_EQ(again->candidate.value, compared->candidate.value);
  EXPECT_FALSE(CompareWithLogits(stored.view(), *rounded, samples_, {}).ok());
  const HostTensor narrow(DType::kFloat32, Shape({127, 8191}));
  EXPECT_FALSE(CompareWithLogits(narrow.view(), *rounded, one, {}).ok());
}

}  // namespace
}  // namespace trireme::eval
