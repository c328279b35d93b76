// SPDX-License-Identifier: Apache-2.0
// `trireme tokenize` as scripts use it: texts, files and JSON lines, and what is wrong with a line.
#include <gmock/gmock.h>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "tests/source_path.h"

#include "executable.h"

namespace trireme::testing_tools {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using Arguments = std::vector<std::string>;

constexpr int kUsage = 2;
constexpr int kData = 3;

class TokenizeTest : public testing::Test {
 protected:
  TokenizeTest()
      : root_(fs::temp_directory_path() / fmt::format("trireme_tokenize_{}", ::getpid())) {
    fs::create_directories(root_);
  }
  ~TokenizeTest() override { fs::remove_all(root_); }

  std::string At(const std::string& name) const { return (root_ / name).string(); }
  static std::string Folder(const std::string& name) {
    return SourcePath("tests/data/tokenizers/" + name);
  }
  static Arguments Tokenize(const std::string& folder, const Arguments& more) {
    Arguments all = {"tokenize", "--tokenizer_dir", folder};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }

  // The answers to the lines of a request.
  std::vector<json> Answers(const std::string& lines, const std::string& folder,
                            const Arguments& more = {}) const {
    WriteText(At("requests"), lines);
    Arguments arguments = {"--jsonl", "--input_file", At("requests"), "--output_file",
                           At("answers")};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Result result = RunTrireme(Tokenize(folder, arguments));
    EXPECT_EQ(result.code, 0) << result.text;
    std::vector<json> answers;
    std::ifstream file(At("answers"));
    for (std::string line; std::getline(file, line);)
      answers.push_back(json::parse(line, nullptr, false));
    return answers;
  }

 private:
  fs::path root_;
};

TEST_F(TokenizeTest, OneTextThereAndBack) {
  const std::string folder = Folder("bpe-spm");
  Result result = RunTrireme(Tokenize(folder, {"--text", "Hello world"}));
  EXPECT_EQ(result.code, 0);
  EXPECT_EQ(result.text, "1 22557 1526\n");
  result = RunTrireme(Tokenize(folder, {"--text", "Hello world", "--no_add_special_tokens"}));
  EXPECT_EQ(result.text, "22557 1526\n");
  result = RunTrireme(Tokenize(folder, {"--ids", "1", "22557", "1526"}));
  EXPECT_EQ(result.text, "<s> Hello world\n");
  result = RunTrireme(Tokenize(folder, {"--ids", "1", "22557", "1526", "--skip_special_tokens"}));
  EXPECT_EQ(result.text, "Hello world\n");
}

TEST_F(TokenizeTest, LinesOfAFileKeepTheirOrder) {
  const std::string folder = Folder("stories-bpe-4096");
  std::string text;
  for (int i = 0; i < 20'000; ++i) text += fmt::format("{} little stories, they say\r\n", i);
  text += "the last line has no end";
  WriteText(At("text"), text);
  const Result encoded = RunTrireme(
      Tokenize(folder, {"--input_file", At("text"), "--output_file", At("ids"), "--threads", "3"}));
  ASSERT_EQ(encoded.code, 0) << encoded.text;
  const Result decoded =
      RunTrireme(Tokenize(folder, {"--decode", "--input_file", At("ids"), "--output_file",
                                   At("back"), "--threads", "2"}));
  ASSERT_EQ(decoded.code, 0) << decoded.text;
  std::ifstream back(At("back"));
  std::string line;
  for (int i = 0; i < 20'000; ++i) {
    ASSERT_TRUE(std::getline(back, line));
    ASSERT_EQ(json::parse(line), fmt::format("{} little stories, they say", i));
  }
  ASSERT_TRUE(std::getline(back, line));
  EXPECT_EQ(json::parse(line), "the last line has no end");
  EXPECT_FALSE(std::getline(back, line));
}

TEST_F(TokenizeTest, WrongLinesAreNamed) {
  WriteText(At("text"),
            "good\nb\xff"
            "d\n");
  Result result = RunTrireme(Tokenize(Folder("bpe-spm"), {"--input_file", At("text")}));
  EXPECT_EQ(result.code, kData);
  EXPECT_THAT(result.text, HasSubstr("line 2"));
  EXPECT_THAT(result.text, HasSubstr("not valid UTF-8 at byte 1"));
  WriteText(At("ids"), "1 2\n3 x4\n");
  result = RunTrireme(Tokenize(Folder("bpe-spm"), {"--decode", "--input_file", At("ids")}));
  EXPECT_EQ(result.code, kData);
  EXPECT_THAT(result.text, HasSubstr("line 2"));
  EXPECT_THAT(result.text, HasSubstr("'x4'"));
}

TEST_F(TokenizeTest, JsonLinesAnswerEachOther) {
  const auto answers = Answers(
      "{\"text\": \"Hello world\"}\n"
      "{\"text\": \"Hello world\", \"add_special_tokens\": false}\n"
      "{\"ids\": [1, 22557, 1526]}\n"
      "{\"ids\": [1, 22557, 1526], \"skip_special_tokens\": true}\n"
      "{\"ids\": []}\n"
      "{\"text\": \"\"}\n"
      "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}], \"bos_token\": \"<s>\"}",
      Folder("bpe-spm"));
  ASSERT_EQ(answers.size(), 7u);
  EXPECT_EQ(answers[0], json({{"ids", {1, 22557, 1526}}}));
  EXPECT_EQ(answers[1], json({{"ids", {22557, 1526}}}));
  EXPECT_EQ(answers[2], json({{"text", "<s> Hello world"}}));
  EXPECT_EQ(answers[3], json({{"text", "Hello world"}}));
  EXPECT_EQ(answers[4], json({{"text", ""}}));
  EXPECT_EQ(answers[5], json({{"ids", {1}}}));
  EXPECT_EQ(answers[6]["prompt"], "<s>[INST] Hi [/INST]");
  EXPECT_EQ(answers[6]["ids"], json({1, 733, 16289, 28793, 15359, 733, 28748, 16289, 28793}));
}

struct WrongLine {
  std::string line;
  std::string message;  // a part of the answer
};

TEST_F(TokenizeTest, WrongJsonLinesAreAnsweredAndTheOthersToo) {
  const std::vector<WrongLine> wrong = {
      {"", "not a JSON object"},
      {"[1, 2]", "not a JSON object"},
      {"{\"text\": \"a\"", "not a JSON object"},
      {"{\"text\": \"a\xff\"}", "not a JSON object"},
      {"{\"text\": \"\\ud800\"}", "not a JSON object"},
      {std::string("{\"text\": \"a\0\"}", 13), "not a JSON object"},
      {"{}", "none of 'text', 'ids' and 'messages'"},
      {"{\"texts\": \"a\"}", "none of 'text', 'ids' and 'messages'"},
      {"{\"text\": \"a\", \"ids\": [1]}", "both 'text' and 'ids'"},
      {"{\"text\": 1}", "'text' must be a string"},
      {"{\"text\": null}", "'text' must be a string"},
      {"{\"text\": \"a\", \"add_special_tokens\": 1}", "'add_special_tokens'"},
      {"{\"ids\": 5}", "'ids' must be a list"},
      {"{\"ids\": [1.5]}", "'ids' must be a list of integers"},
      {"{\"ids\": [\"1\"]}", "'ids' must be a list of integers"},
      {"{\"ids\": [-1]}", "token id -1"},
      {"{\"ids\": [32000]}", "token id 32000 is not between 0 and 31999"},
      {"{\"ids\": [99999999999999999999]}", "'ids' must be a list of integers"},
      {"{\"ids\": [18446744073709551615]}", "token id 18446744073709551615"},
      {"{\"ids\": [1], \"skip_special_tokens\": \"no\"}", "'skip_special_tokens'"},
      {"{\"messages\": [{\"role\": \"king\", \"content\": \"x\"}]}", "alternate"},
      {"{\"messages\": 7}", ""}};
  std::string lines;
  for (const WrongLine& test : wrong) lines += test.line + "\n{\"ids\": []}\n";
  const auto answers = Answers(lines, Folder("bpe-spm"));
  ASSERT_EQ(answers.size(), 2 * wrong.size());
  for (size_t i = 0; i < wrong.size(); ++i) {
    ASSERT_TRUE(answers[2 * i].contains("error")) << wrong[i].line << answers[2 * i];
    EXPECT_EQ(answers[2 * i].size(), 1u);
    EXPECT_THAT(answers[2 * i]["error"].get<std::string>(), HasSubstr(wrong[i].message))
        << wrong[i].line;
    EXPECT_EQ(answers[2 * i + 1], json({{"text", ""}}));
  }
}

TEST_F(TokenizeTest, ATemplateIsNeededOnlyByMessages) {
  const auto answers = Answers("{\"messages\": []}\n{\"text\": \"a\"}\n", Folder("multilingual"));
  ASSERT_EQ(answers.size(), 2u);
  EXPECT_TRUE(answers[0].contains("error"));
  EXPECT_TRUE(answers[1].contains("ids"));
  WriteText(At("own.jinja"), "{{ messages | length }} {{ extra }}{{ strftime_now('%Y') }}");
  const auto own = Answers("{\"messages\": [1, 2], \"extra\": \"of \"}\n", Folder("multilingual"),
                           {"--chat_template", At("own.jinja"), "--now", "2031-05-06T07:08:09"});
  ASSERT_EQ(own.size(), 1u);
  EXPECT_EQ(own[0]["prompt"], "2 of 2031");
}

TEST_F(TokenizeTest, WrongCommandLinesAndFoldersSayWhatIsMissing) {
  const std::string folder = Folder("bpe-spm");
  const auto expect = [](const Arguments& arguments, int code, const std::string& message) {
    const Result result = RunTrireme(arguments);
    EXPECT_EQ(result.code, code) << result.text;
    EXPECT_THAT(result.text, HasSubstr(message));
  };
  expect({"tokenize", "--text", "a"}, kUsage, "--tokenizer_dir is missing");
  expect(Tokenize(folder, {"--text", "a", "--ids", "1"}), kUsage, "exclude each other");
  expect(Tokenize(folder, {"--text", "a", "--jsonl"}), kUsage, "exclude --jsonl");
  expect(Tokenize(folder, {"--decode", "--jsonl"}), kUsage, "--jsonl");
  expect(Tokenize(folder, {"--ids", "32000"}), kData, "32000");
  expect(Tokenize(folder, {"--input_file", At("absent")}), kData, At("absent"));
  expect(Tokenize(folder, {"--jsonl", "--chat_template", At("absent")}), kData, At("absent"));
  expect(Tokenize(At("no_folder"), {"--text", "a"}), kData, "no tokenizer found");
}

}  // namespace
}  // namespace trireme::testing_tools
