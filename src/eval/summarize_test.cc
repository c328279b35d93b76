// SPDX-License-Identifier: Apache-2.0
// The demo model continues two articles; what it says is scored as it would be by hand.
#include "eval/summarize.h"

#include <gmock/gmock.h>

#include "convert/demo_testing.h"

namespace trireme::eval {
namespace {

using ::testing::HasSubstr;

class SummarizeTest : public ::testing::Test {
 protected:
  SummarizeTest() {
    auto generator = Generator::Create(convert::DemoEngine(folder_, "bfloat16"), {});
    EXPECT_TRUE(generator.ok()) << generator.status().message();
    generator_ = std::move(*generator);
  }

  const TestFolder folder_;
  std::unique_ptr<Generator> generator_;
  const std::vector<TextRecord> records_ = {
      {.text = "Once upon a time there was a little dog.", .targets = {"The dog was happy."}},
      {.text = convert::DemoStories(), .targets = {"He was sad.", "They played in the park."}}};
  SummarizeOptions options_ = {.batch_size = 2, .output_len = 24, .sampling = {.top_k = 1}};
};

TEST_F(SummarizeTest, ScoresWhatTheModelSays) {
  const auto report = Summarize(*generator_, records_, options_, {});
  ASSERT_TRUE(report.ok()) << report.status().message();
  ASSERT_EQ(report->summaries.size(), 2u);
  double rouge1 = 0.0;
  for (size_t i = 0; i < 2; ++i) {
    const Summary& summary = report->summaries[i];
    EXPECT_FALSE(summary.text.empty());
    EXPECT_LE(summary.num_output_tokens, 24);
    const RougeScores scores = ScoreRougeBest(records_[i].targets, summary.text, false);
    EXPECT_EQ(summary.rouge.rouge1.fmeasure, scores.rouge1.fmeasure);
    rouge1 += scores.rouge1.fmeasure / 2.0;
  }
  EXPECT_DOUBLE_EQ(report->mean.rouge1.fmeasure, rouge1);
  // A long article is cut to the prompt's limit, and one by one the texts are the same.
  EXPECT_EQ(report->summaries[1].num_prompt_tokens, 923);
  options_.batch_size = 1;
  const auto again = Summarize(*generator_, records_, options_, {});
  ASSERT_TRUE(again.ok());
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(again->summaries[i].text, report->summaries[i].text);
  }
}

TEST_F(SummarizeTest, RefusesWhatDoesNotFit) {
  options_.output_len = 1024;
  EXPECT_THAT(std::string(Summarize(*generator_, records_, options_, {}).status().message()),
              HasSubstr("--output_len 1024"));
  options_.output_len = 1022;  // leaves two tokens for the prompt
  EXPECT_THAT(std::string(Summarize(*generator_, records_, options_, {}).status().message()),
              HasSubstr("--max_input_length"));
  EXPECT_FALSE(Summarize(*generator_, {}, options_, {}).ok());
}

}  // namespace
}  // namespace trireme::eval
