// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "text/stop_matcher.h"
#include "trireme/tokenizer.h"

namespace trireme {
namespace {

// A vocabulary whose token i is the i-th string; id 0 is special.
class ListTokenizer : public Tokenizer {
 public:
  explicit ListTokenizer(std::vector<std::string> tokens) : tokens_(std::move(tokens)) {}
  StatusOr<std::vector<int32_t>> Encode(std::string_view, bool) const override {
    return Status(StatusCode::kUnimplemented, "no");
  }
  StatusOr<std::string> Decode(std::span<const int32_t>, bool) const override {
    return Status(StatusCode::kUnimplemented, "no");
  }
  int vocab_size() const override { return static_cast<int>(tokens_.size()); }
  std::optional<int32_t> bos_id() const override { return std::nullopt; }
  std::optional<int32_t> eos_id() const override { return 0; }
  std::optional<int32_t> pad_id() const override { return std::nullopt; }
  std::optional<int32_t> TokenToId(std::string_view) const override { return std::nullopt; }
  std::string IdToToken(int32_t id) const override { return TokenBytes(id); }
  bool IsSpecial(int32_t id) const override { return id == 0; }
  std::string TokenBytes(int32_t id) const override {
    return id >= 0 && id < vocab_size() ? tokens_[static_cast<size_t>(id)] : "";
  }

 private:
  std::vector<std::string> tokens_;
};

std::string AppendAll(Detokenizer& stream, std::vector<int32_t> ids) {
  std::string text;
  for (const int32_t id : ids) text += stream.Append(id);
  return text;
}

TEST(DetokenizerTest, HoldsBackIncompleteCodePoints) {
  const ListTokenizer tokenizer({"<e>", "a\xe2", "\x82", "\xac!", "\xff"});
  Detokenizer stream(tokenizer, {});
  EXPECT_EQ(stream.Append(1), "a");
  EXPECT_EQ(stream.Append(2), "");
  EXPECT_EQ(stream.Append(3), "\xe2\x82\xac!");
  EXPECT_EQ(stream.Append(4), "\xef\xbf\xbd");
  EXPECT_EQ(stream.Append(1), "a");
  EXPECT_EQ(stream.Finish(), "\xef\xbf\xbd");
}

TEST(DetokenizerTest, SkipsSpecialTokensAndUnknownIds) {
  const ListTokenizer tokenizer({"<e>", "a"});
  Detokenizer stream(tokenizer, {});
  EXPECT_EQ(AppendAll(stream, {0, 1, 99, -1}), "a");
  Detokenizer keeping(tokenizer, {.skip_special_tokens = false});
  EXPECT_EQ(keeping.Append(0), "<e>");
}

TEST(DetokenizerTest, HoldsBackPossibleStopStrings) {
  const ListTokenizer tokenizer({"<e>", "x", "\n", "User", ":", "y"});
  DetokenizerOptions options{.stop_strings = {"", "\nUser:"}};
  Detokenizer stream(tokenizer, options);
  EXPECT_EQ(stream.Append(1), "x");
  EXPECT_EQ(stream.Append(2), "");
  EXPECT_EQ(stream.Append(3), "");
  EXPECT_EQ(stream.Append(5), "\nUsery");
  EXPECT_EQ(AppendAll(stream, {2, 3}), "");
  EXPECT_FALSE(stream.stopped());
  EXPECT_EQ(stream.Append(4), "");
  EXPECT_TRUE(stream.stopped());
  EXPECT_EQ(stream.stop_string(), "\nUser:");
  EXPECT_EQ(stream.Append(5), "");
  EXPECT_EQ(stream.Finish(), "");

  options.include_stop_string = true;
  Detokenizer including(tokenizer, options);
  EXPECT_EQ(AppendAll(including, {2, 3, 4}), "\nUser:");
}

TEST(DetokenizerTest, FlushesWhatNeverBecameAStopString) {
  const ListTokenizer tokenizer({"<e>", "ab"});
  Detokenizer stream(tokenizer, {.stop_strings = {"abc"}});
  EXPECT_EQ(stream.Append(1), "");
  EXPECT_EQ(stream.Finish(), "ab");
  EXPECT_FALSE(stream.stopped());
}

// What the matcher must do, said plainly: find the smallest end at which a stop string is
// complete, and of those that end there the longest.
std::pair<int, std::string> StopPlainly(const std::string& text,
                                        const std::vector<std::string>& stops) {
  for (size_t end = 1; end <= text.size(); ++end) {
    int best = -1;
    for (size_t i = 0; i < stops.size(); ++i) {
      const std::string& stop = stops[i];
      if (stop.empty() || stop.size() > end ||
          text.compare(end - stop.size(), stop.size(), stop) != 0)
        continue;
      if (best < 0 || stop.size() > stops[static_cast<size_t>(best)].size())
        best = static_cast<int>(i);
    }
    if (best >= 0) return {best, text.substr(0, end - stops[static_cast<size_t>(best)].size())};
  }
  return {-1, text};
}

TEST(StopMatcherTest, AgreesWithThePlainSearchAtEverySplit) {
  std::mt19937 random(7);
  const auto word = [&](size_t most) {
    std::string s;
    for (size_t n = random() % (most + 1); n > 0; --n) s += static_cast<char>('a' + random() % 2);
    return s;
  };
  for (int round = 0; round < 3000; ++round) {
    std::vector<std::string> stops;
    for (size_t n = 1 + random() % 3; n > 0; --n) stops.push_back(word(5));
    const std::string text = word(20);
    StopMatcher matcher(stops);
    std::string out;
    int stop = -1;
    for (size_t at = 0; at < text.size() && stop < 0;) {
      const size_t size = 1 + random() % 4;
      stop = matcher.Append(std::string_view(text).substr(at, size), out);
      at += size;
    }
    if (stop < 0) matcher.Finish(out);
    const auto [expected_stop, expected] = StopPlainly(text, stops);
    EXPECT_EQ(out, expected) << text;
    // Equal strings may be reported under either index.
    EXPECT_EQ(stop < 0 ? "" : stops[static_cast<size_t>(stop)],
              expected_stop < 0 ? "" : stops[static_cast<size_t>(expected_stop)]);
  }
}

TEST(StopMatcherTest, NeverSplitsACodePoint) {
  // Both letters begin with the byte c3.
  StopMatcher matcher({"\xa9x"});
  std::string out;
  matcher.Append("caf\xc3\xa9", out);
  EXPECT_EQ(out, "caf");
  matcher.Append(" ", out);
  EXPECT_EQ(out, "caf\xc3\xa9 ");
}

}  // namespace
}  // namespace trireme
