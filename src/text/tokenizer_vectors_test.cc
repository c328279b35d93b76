// SPDX-License-Identifier: Apache-2.0
// Every folder of tests/data/tokenizers with recorded ids, and those of the folder that
// TRIREME_TOKENIZER_DATA names (for vocabularies too large for the repository).
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>

#include "tests/source_path.h"
#include "text/utf8.h"
#include "trireme/tokenizer.h"

namespace trireme {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

struct VectorCase {
  std::string name;
  fs::path folder;
  fs::path vectors;
};

void AddCases(const fs::path& root, std::vector<VectorCase>& cases) {
  if (!fs::is_directory(root / "vectors")) return;
  for (const auto& entry : fs::directory_iterator(root / "vectors")) {
    const std::string stem = entry.path().stem().string();
    if (fs::is_directory(root / stem)) cases.push_back({stem, root / stem, entry.path()});
  }
}

std::vector<VectorCase> Cases() {
  std::vector<VectorCase> cases;
  AddCases(SourcePath("tests/data/tokenizers"), cases);
  if (const char* extra = std::getenv("TRIREME_TOKENIZER_DATA")) AddCases(extra, cases);
  return cases;
}

class VectorsTest : public ::testing::TestWithParam<VectorCase> {
 protected:
  void SetUp() override {
    std::ifstream file(GetParam().vectors);
    cases_ = json::parse(file, nullptr, false)["cases"];
    ASSERT_GT(cases_.size(), 20u);
    auto loaded = Tokenizer::Load(GetParam().folder.string());
    ASSERT_TRUE(loaded.ok()) << loaded.status().ToString();
    tokenizer_ = std::move(*loaded);
  }

  std::string Stream(const std::vector<int32_t>& ids, bool skip_special) const {
    Detokenizer stream(*tokenizer_, {.skip_special_tokens = skip_special});
    std::string text;
    for (const int32_t id : ids) {
      const std::string piece = stream.Append(id);
      EXPECT_FALSE(!piece.empty() && (piece[0] & 0xc0) == 0x80) << "a split code point";
      text += piece;
    }
    return text + stream.Finish();
  }

  json cases_;
  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_P(VectorsTest, EncodesAsRecorded) {
  for (const json& test : cases_) {
    const auto ids = tokenizer_->Encode(test["text"].get<std::string>(), false);
    ASSERT_TRUE(ids.ok()) << ids.status().ToString();
    EXPECT_EQ(*ids, test["ids"].get<std::vector<int32_t>>()) << test["text"];
  }
}

TEST_P(VectorsTest, DecodesAsRecordedAtOnceAndInAStream) {
  for (const json& test : cases_) {
    const auto ids = test["ids"].get<std::vector<int32_t>>();
    const std::string expected = test.value("decoded", test["text"].get<std::string>());
    const auto text = tokenizer_->Decode(ids, false);
    ASSERT_TRUE(text.ok()) << text.status().ToString();
    EXPECT_EQ(*text, expected);
    EXPECT_EQ(Stream(ids, false), expected);
  }
}

TEST_P(VectorsTest, StreamsAnyIdsAsDecoded) {
  std::mt19937 random(17);
  for (int round = 0; round < 500; ++round) {
    std::vector<int32_t> ids(random() % 30);
    // Low ids hold the bytes and the special tokens of most vocabularies.
    for (int32_t& id : ids)
      id = static_cast<int32_t>(
          random() % static_cast<uint32_t>(random() % 2 ? 300 : tokenizer_->vocab_size()));
    for (const bool skip : {false, true}) {
      const auto text = tokenizer_->Decode(ids, skip);
      ASSERT_TRUE(text.ok());
      EXPECT_EQ(Stream(ids, skip), *text);
    }
  }
}

// Characters of every block of 256 code points, in ever longer words.
TEST_P(VectorsTest, StreamsTextsOfEveryScriptAsDecodedAtEverySplit) {
  std::mt19937 random(23);
  for (uint32_t block = 0; block < 0x110000; block += 0x100) {
    if (block >= 0xd800 && block < 0xe000) continue;
    std::string text;
    for (int i = 1; i < 25; ++i) {
      utf8::Append(block + random() % 0x100, text);
      if (random() % 5 == 0) text += ' ';
    }
    const auto ids = tokenizer_->Encode(text, false);
    ASSERT_TRUE(ids.ok()) << ids.status().ToString();
    const std::string whole = tokenizer_->Decode(*ids, false).value();
    Detokenizer stream(*tokenizer_, {.skip_special_tokens = false});
    std::string sent;
    for (const int32_t id : *ids) {
      sent += stream.Append(id);
      ASSERT_TRUE(whole.starts_with(sent)) << text;
    }
    EXPECT_EQ(sent + stream.Finish(), whole);
  }
}

TEST_P(VectorsTest, NamesEveryToken) {
  for (int32_t id = 0; id < tokenizer_->vocab_size(); ++id) {
    const std::string token = tokenizer_->IdToToken(id);
    if (!token.empty()) {
      ASSERT_EQ(tokenizer_->TokenToId(token), id) << token;
    }
  }
  EXPECT_EQ(tokenizer_->IdToToken(tokenizer_->vocab_size()), "");
  EXPECT_EQ(tokenizer_->IdToToken(-1), "");
  EXPECT_EQ(tokenizer_->TokenBytes(-1), "");
  EXPECT_FALSE(tokenizer_->IsSpecial(-1));
  EXPECT_FALSE(tokenizer_->Decode(std::vector<int32_t>{-1}, false).ok());
}

TEST_P(VectorsTest, RefusesTextThatIsNotUtf8) {
  const auto ids = tokenizer_->Encode("ab\xff", false);
  EXPECT_EQ(ids.status().code(), StatusCode::kInvalidArgument);
}

std::unique_ptr<Tokenizer> Recorded(const std::string& name) {
  return Tokenizer::Load(SourcePath("tests/data/tokenizers/" + name)).value();
}

// Of the pieces before any text, the first that begins with a word mark loses it, or each where the
// model removes extra white space; spaces spelled as bytes stay. Texts of sentencepiece 0.2.3.
TEST(SentencePieceDecodeTest, LeadingMarks) {
  const auto bpe = Recorded("bpe-spm");
  EXPECT_EQ(bpe->Decode(std::vector<int32_t>{28705, 28705, 28708}, false).value(), " a");
  EXPECT_EQ(bpe->Decode(std::vector<int32_t>{35, 264}, false).value(), "  a");
  const auto unigram = Recorded("unigram-spm");
  EXPECT_EQ(unigram->Decode(std::vector<int32_t>{4, 4, 4, 632}, false).value(), "both");
  EXPECT_EQ(unigram->Decode(std::vector<int32_t>{4, 4, 0}, false).value(), " \xe2\x81\x87 ");
}

INSTANTIATE_TEST_SUITE_P(Recorded, VectorsTest, ::testing::ValuesIn(Cases()),
                         [](const ::testing::TestParamInfo<VectorCase>& info) {
                           std::string name = info.param.name;
                           for (char& c : name)
                             if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
                           return name;
                         });

}  // namespace
}  // namespace trireme
