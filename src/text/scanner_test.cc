// SPDX-License-Identifier: Apache-2.0
// The hand-written scanners against the regular expressions they stand for.
#include "text/scanner.h"

#include <gtest/gtest.h>

#include <random>

#include "text/regex.h"
#include "text/splitter.h"

namespace trireme {
namespace {

std::string Cased(const std::string& ending) {
  const std::string before = R"([^\r\n\p{L}\p{N}]?)";
  const std::string upper = R"([\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}])",
                    lower = R"([\p{Ll}\p{Lm}\p{Lo}\p{M}])";
  return before + upper + "*" + lower + "+" + ending + "|" + before + upper + "+" + lower + "*" +
         ending + "|";
}

std::vector<std::string> Patterns() {
  const std::string contractions = R"((?i:'s|'t|'re|'ve|'m|'ll|'d))";
  const std::string letters = R"([^\r\n\p{L}\p{N}]?\p{L}+)";
  return {
      std::string(kByteLevelPattern),
      contractions + "|" + letters +
          R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
      contractions + "|" + letters + R"(|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
      R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)",
      Cased(contractions + "?") +
          R"(\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
      Cased("") + R"(\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
  };
}

const std::vector<std::string>& Characters() {
  static const std::vector<std::string> kCharacters = {"a",
                                                       "b",
                                                       "s",
                                                       "t",
                                                       "l",
                                                       "r",
                                                       "v",
                                                       "e",
                                                       "S",
                                                       "T",
                                                       "L",
                                                       "Z",
                                                       "\xc5\xbf",
                                                       "'",
                                                       "'",
                                                       "'",
                                                       " ",
                                                       " ",
                                                       " ",
                                                       "\n",
                                                       "\r",
                                                       "\t",
                                                       "\xc2\xa0",
                                                       "\xc2\x85",
                                                       "\xe3\x80\x80",
                                                       "\xe1\xa0\x8e",
                                                       "1",
                                                       "2",
                                                       "\xc2\xb2",
                                                       "\xd9\xa3",
                                                       "\xe2\x85\xa7",
                                                       "/",
                                                       ".",
                                                       "_",
                                                       "-",
                                                       "\xc3\x9f",
                                                       "\xc3\x89",
                                                       "\xc7\x85",
                                                       "\xca\xb0",
                                                       "\xe6\xbc\xa2",
                                                       "\xe3\x81\x8b",
                                                       "\xcc\x81",
                                                       "\xe0\xa4\xbe",
                                                       "\xf0\x9f\x98\x80",
                                                       "\xe2\x80\x8d",
                                                       "\x7f"};
  return kCharacters;
}

TEST(ScannerTest, FindsWhatTheRegularExpressionFinds) {
  std::mt19937 random(3);
  const auto& characters = Characters();
  for (const std::string& pattern : Patterns()) {
    const auto style = RecognizeScanner(pattern);
    ASSERT_TRUE(style.has_value()) << pattern;
    const auto regex = Regex::Compile(pattern);
    ASSERT_TRUE(regex.ok()) << regex.status().ToString();
    for (int round = 0; round < 4000; ++round) {
      std::string text;
      for (size_t n = random() % 14; n > 0; --n) text += characters[random() % characters.size()];
      std::vector<Span> scanned, matched;
      Scan(*style, text, scanned);
      ASSERT_TRUE((*regex)->FindAll(text, matched).ok());
      std::string by_scanner, by_regex;
      for (const Span& s : scanned) by_scanner += text.substr(s.begin, s.end - s.begin) + "|";
      for (const Span& s : matched) by_regex += text.substr(s.begin, s.end - s.begin) + "|";
      ASSERT_EQ(by_scanner, by_regex) << pattern;
    }
  }
}

TEST(ScannerTest, LeavesOtherPatternsAlone) {
  EXPECT_FALSE(RecognizeScanner(R"(\s+)").has_value());
  EXPECT_FALSE(RecognizeScanner(std::string(kByteLevelPattern) + "|x").has_value());
  EXPECT_FALSE(RecognizeScanner("'s|'t|'re|'ve|'m|'ll|'d|" + Cased("") +
                                R"(\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)")
                   .has_value());
}

std::string Matches(std::string_view pattern, std::string_view text) {
  const auto regex = Regex::Compile(pattern);
  if (!regex.ok()) return regex.status().ToString();
  std::vector<Span> spans;
  if (const Status status = (*regex)->FindAll(text, spans); !status.ok()) return status.ToString();
  std::string joined;
  for (const Span& s : spans) joined += std::string(text.substr(s.begin, s.end - s.begin)) + "|";
  return joined;
}

TEST(RegexTest, ReadsTheDialect) {
  EXPECT_EQ(Matches("[^(\\s|[.,])]+", "a(b.c d|e,f"), "a|b|c|d|e|f|");         // a class in a class
  EXPECT_EQ(Matches("[\\p{L}&&[^\\p{Han}]]+", "ab\xe6\xbc\xa2xy"), "ab|xy|");  // an intersection
  EXPECT_EQ(Matches("[^\\p{L}&&[a-c]]", "abz"), "z|");
  EXPECT_EQ(Matches("\\d{1,2}+", "12345"), "12345|");  // repeated, not possessive
  EXPECT_EQ(Matches("\\x{41}\\u0042", "xAB"), "AB|");
  EXPECT_EQ(Matches("a{,2}b", "aaab"), "aab|");
  EXPECT_EQ(Matches("\\s", "\xe1\xa0\x8e\xc2\x85"), "\xc2\x85|");  // U+180E is no white space
  EXPECT_EQ(Matches("^b$", "a\nb\nc"), "b|");                      // line anchors
  EXPECT_EQ(Matches("x*", "axb"), "|x||");
}

TEST(RegexTest, RefusesWhatItCannotRead) {
  EXPECT_FALSE(Regex::Compile("[a").ok());
  EXPECT_FALSE(Regex::Compile("a)").ok());
  EXPECT_FALSE(Regex::Compile("\\p{L").ok());
  EXPECT_FALSE(Regex::Compile("\\").ok());
}

TEST(RegexTest, StopsAtItsLimits) {
  const auto regex = Regex::Compile("(a|aa)+$");
  ASSERT_TRUE(regex.ok());
  std::vector<Span> spans;
  const Status status = (*regex)->FindAll(std::string(60, 'a') + "b", spans);
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace trireme
