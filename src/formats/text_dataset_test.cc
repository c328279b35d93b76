// SPDX-License-Identifier: Apache-2.0
#include "formats/text_dataset.h"

#include <gmock/gmock.h>

#include "formats/test_files.h"

namespace trireme {
namespace {

using ::testing::HasSubstr;

class TextDatasetTest : public testing::Test {
 protected:
  std::string Put(std::string_view name, std::string_view text) { return folder_.Put(name, text); }
  TestFolder folder_;
};

TEST_F(TextDatasetTest, PlainTextIsOneRecord) {
  const auto records = ReadTextDataset(Put("a.txt", "one\ntwo\n"), {});
  ASSERT_TRUE(records.ok());
  ASSERT_EQ(records->size(), 1u);
  EXPECT_EQ((*records)[0].text, "one\ntwo\n");
  EXPECT_TRUE((*records)[0].is_whole_file);
}

TEST_F(TextDatasetTest, JsonLinesTakeTextThenArticleThenTheColumnGiven) {
  const std::string path = Put("a.jsonl",
                               "{\"article\": \"b\", \"text\": \"a\"}\n\n{\"article\": \"c\"}\n"
                               "{\"text\": \"  \"}\n{\"text\": \"d\"}");
  const auto records = ReadTextDataset(path, {});
  ASSERT_TRUE(records.ok()) << records.status().message();
  ASSERT_EQ(records->size(), 3u);
  EXPECT_EQ((*records)[0].text, "a");
  EXPECT_EQ((*records)[1].text, "c");
  EXPECT_EQ((*records)[2].text, "d");
  EXPECT_EQ(ReadTextDataset(path, {.max_records = 2})->size(), 2u);
  const std::string other = Put("b.jsonl", "{\"body\": \"x\"}");
  EXPECT_EQ((*ReadTextDataset(other, {.column = "body"}))[0].text, "x");
  EXPECT_THAT(std::string(ReadTextDataset(other, {}).status().message()),
              HasSubstr("line 1 has no text in column 'text' or 'article'"));
}

TEST_F(TextDatasetTest, ReadsSummariesWhereTheyAreWanted) {
  const std::string path = Put("a.jsonl",
                               "{\"article\": \"long\", \"highlights\": \"short\"}\n"
                               "{\"document\": \"story\", \"summaries\": [\"one\", \"two\"]}");
  const auto records = ReadTextDataset(path, {.wants_targets = true});
  ASSERT_TRUE(records.ok()) << records.status().message();
  ASSERT_EQ(records->size(), 2u);
  EXPECT_EQ((*records)[0].text, "long");
  EXPECT_THAT((*records)[0].targets, testing::ElementsAre("short"));
  EXPECT_THAT((*records)[1].targets, testing::ElementsAre("one", "two"));
  EXPECT_THAT(std::string(ReadTextDataset(path, {.wants_targets = true, .target_column = "gist"})
                              .status()
                              .message()),
              HasSubstr("no summary in column 'gist'"));
  const std::string number = Put("b.jsonl", "{\"text\": \"a\", \"summary\": [1]}");
  EXPECT_THAT(std::string(ReadTextDataset(number, {.wants_targets = true}).status().message()),
              HasSubstr("a summary is an integer"));
  EXPECT_FALSE(ReadTextDataset(Put("c.txt", "plain"), {.wants_targets = true}).ok());
}

TEST_F(TextDatasetTest, FoldersAreReadInTheOrderOfNames) {
  Put("2.txt", "second");
  Put("1.jsonl", "{\"text\": \"first\"}");
  Put("3.bin", "not text");
  const auto records = ReadTextDataset(folder_.path(), {});
  ASSERT_TRUE(records.ok());
  ASSERT_EQ(records->size(), 2u);
  EXPECT_EQ((*records)[0].text, "first");
  EXPECT_EQ((*records)[1].text, "second");
}

TEST_F(TextDatasetTest, SaysWhatIsWrong) {
  EXPECT_THAT(std::string(ReadTextDataset("cnn_dailymail", {}).status().message()),
              HasSubstr("nothing is downloaded"));
  EXPECT_THAT(std::string(ReadTextDataset(Put("a.jsonl", "{\"text\": "), {}).status().message()),
              HasSubstr("line 1"));
  EXPECT_THAT(std::string(ReadTextDataset(Put("b.jsonl", "[1]"), {}).status().message()),
              HasSubstr("expected an object"));
  EXPECT_THAT(std::string(ReadTextDataset(Put("c.txt", " \n"), {}).status().message()),
              HasSubstr("holds no text"));
  EXPECT_THAT(std::string(ReadTextDataset(Put("d.parquet", "PAR1"), {}).status().message()),
              HasSubstr("parquet"));
}

}  // namespace
}  // namespace trireme
