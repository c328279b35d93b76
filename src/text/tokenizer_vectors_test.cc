// SPDX-License-Identifier: Apache-2.0
// Published and synthetic tokenizers against recorded ids and texts. Folders that are too large
// for the repository are read from TRIREME_TOKENIZER_DATA when that is set.
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "trireme/tokenizer.h"

namespace trireme {
namespace {

using nlohmann::json;

struct VectorCase {
  const char* folder;
  const char* vectors;
};

std::string DataRoot(const VectorCase& test) {
  const std::string own = std::string(TRIREME_TEST_DATA) + "/tokenizers";
  if (std::filesystem::exists(own + "/" + test.folder)) return own;
  const char* extra = std::getenv("TRIREME_TOKENIZER_DATA");
  return extra == nullptr ? "" : extra;
}

class VectorsTest : public ::testing::TestWithParam<VectorCase> {
 protected:
  void SetUp() override {
    const std::string root = DataRoot(GetParam());
    if (root.empty()) GTEST_SKIP() << GetParam().folder << " is not in the repository";
    std::ifstream file(root + "/vectors/" + GetParam().vectors);
    cases_ = json::parse(file, nullptr, false)["cases"];
    ASSERT_GT(cases_.size(), 20u);
    auto loaded = Tokenizer::Load(root + "/" + GetParam().folder);
    ASSERT_TRUE(loaded.ok()) << loaded.status().ToString();
    tokenizer_ = std::move(*loaded);
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

TEST_P(VectorsTest, DecodesAsRecorded) {
  for (const json& test : cases_) {
    const auto text = tokenizer_->Decode(test["ids"].get<std::vector<int32_t>>(), false);
    ASSERT_TRUE(text.ok()) << text.status().ToString();
    EXPECT_EQ(*text, test.value("decoded", test["text"].get<std::string>()));
  }
}

TEST_P(VectorsTest, StreamsWholeCodePointsThatJoinToTheDecodedText) {
  for (const json& test : cases_) {
    Detokenizer stream(*tokenizer_, {.skip_special_tokens = false});
    std::string text;
    for (const int32_t id : test["ids"].get<std::vector<int32_t>>()) {
      const std::string piece = stream.Append(id);
      EXPECT_FALSE(!piece.empty() && (piece[0] & 0xc0) == 0x80);
      text += piece;
    }
    text += stream.Finish();
    EXPECT_EQ(text, test.value("decoded", test["text"].get<std::string>()));
  }
}

INSTANTIATE_TEST_SUITE_P(Published, VectorsTest,
                         ::testing::Values(VectorCase{"stories-bpe-4096", "stories-bpe-4096.json"},
                                           VectorCase{"bloom", "bloom-synthetic.json"},
                                           VectorCase{"gpt2", "gpt2.json"},
                                           VectorCase{"llama-3", "llama-3.json"},
                                           VectorCase{"qwen2", "qwen2.json"},
                                           VectorCase{"llama-2", "llama-2-json.json"},
                                           VectorCase{"mistral-v0.2", "mistral-v0.2-json.json"}),
                         [](const ::testing::TestParamInfo<VectorCase>& info) {
                           std::string name = info.param.vectors;
                           name = name.substr(0, name.find(".json"));
                           for (char& c : name)
                             if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
                           return name;
                         });

}  // namespace
}  // namespace trireme
