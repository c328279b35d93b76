// SPDX-License-Identifier: Apache-2.0
// Small tokenizers written here, folder by folder: what each section means, and what is refused.
#include "trireme/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <stdexcept>

#include "text/vocab_files.h"

namespace trireme {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Ids = std::vector<int32_t>;

// A model folder that vanishes with the test.
class Folder {
 public:
  Folder()
      : path_(::testing::TempDir() + "tokenizer_" + std::to_string(++count_) + "_" +
              std::to_string(getpid())) {
    std::filesystem::create_directories(path_);
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder& Write(const std::string& name, const std::string& text) {
    std::ofstream(path_ + "/" + name, std::ios::binary) << text;
    return *this;
  }
  Folder& Write(const std::string& name, const json& value) { return Write(name, value.dump()); }
  StatusOr<std::unique_ptr<Tokenizer>> Load() const { return Tokenizer::Load(path_); }
  const std::string& path() const { return path_; }

 private:
  static int count_;
  std::string path_;
};
int Folder::count_ = 0;

std::unique_ptr<Tokenizer> Made(const Folder& folder) {
  auto loaded = folder.Load();
  // A test cannot go on without its tokenizer.
  if (!loaded.ok()) throw std::runtime_error(loaded.status().ToString());
  return std::move(*loaded);
}

Ids Encoded(const Tokenizer& tokenizer, const std::string& text, bool special = false) {
  const auto ids = tokenizer.Encode(text, special);
  EXPECT_TRUE(ids.ok()) << ids.status().ToString();
  return ids.ok() ? *ids : Ids{};
}

json Words(std::vector<std::string> words) {
  json vocab = json::object();
  for (size_t i = 0; i < words.size(); ++i) vocab[words[i]] = i;
  return vocab;
}

json WordLevelFile() {
  return {{"model",
           {{"type", "WordLevel"}, {"vocab", Words({"?", "a", "b", "<m>"})}, {"unk_token", "?"}}},
          {"pre_tokenizer", {{"type", "WhitespaceSplit"}}},
          {"added_tokens", json::array()}};
}

TEST(TokenizerTest, AddedTokensKeepTheirFlags) {
  json file = WordLevelFile();
  file["added_tokens"] = {
      {{"id", 10}, {"content", "<l>"}, {"lstrip", true}, {"normalized", false}, {"special", true}},
      {{"id", 11}, {"content", "<r>"}, {"rstrip", true}, {"normalized", false}},
      {{"id", 12}, {"content", "w"}, {"single_word", true}, {"normalized", false}},
      {{"id", 13}, {"content", "<l>>"}, {"normalized", false}}};
  const auto t = Made(Folder().Write("tokenizer.json", file));
  EXPECT_THAT(Encoded(*t, "a <l>b"), ElementsAre(1, 10, 2));
  EXPECT_THAT(Encoded(*t, "a<r>  b"), ElementsAre(1, 11, 2));
  EXPECT_THAT(Encoded(*t, "a w b"), ElementsAre(1, 12, 2));
  EXPECT_THAT(Encoded(*t, "aw"), ElementsAre(0));
  EXPECT_THAT(Encoded(*t, "<l>>"), ElementsAre(13));  // the longest wins
  EXPECT_TRUE(t->IsSpecial(10));
  EXPECT_FALSE(t->IsSpecial(11));
  EXPECT_EQ(t->vocab_size(), 14);
  EXPECT_EQ(*t->Decode(Ids{1, 10, 2}, true), "a b");
  EXPECT_EQ(*t->Decode(Ids{1, 10, 2}, false), "a <l> b");
}

TEST(TokenizerTest, NormalizedTokensAreFoundInTheNormalizedText) {
  json file = WordLevelFile();
  file["normalizer"] = {{"type", "Lowercase"}};
  file["added_tokens"] = {{{"id", 10}, {"content", "YES"}, {"normalized", true}},
                          {{"id", 11}, {"content", "NO"}, {"normalized", false}}};
  const auto t = Made(Folder().Write("tokenizer.json", file));
  EXPECT_THAT(Encoded(*t, "A yes B"), ElementsAre(1, 10, 2));
  EXPECT_THAT(Encoded(*t, "a no NO"), ElementsAre(1, 0, 11));
}

// With the word mark that a normalizer puts before it a token takes the mark of the text too.
TEST(TokenizerTest, NormalizedTokensGiveBackWhatTheyTook) {
  Folder folder;
  folder.Write(
      "tokenizer.json",
      json{{"model",
            {{"type", "BPE"}, {"vocab", Words({"<x>", "\u2581", "a"})}, {"merges", json::array()}}},
           {"normalizer",
            {{"type", "Sequence"},
             {"normalizers",
              {{{"type", "Prepend"}, {"prepend", "\u2581"}},
               {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "\u2581"}}}}}},
           {"decoder",
            {{"type", "Sequence"},
             {"decoders",
              {{{"type", "Replace"}, {"pattern", {{"String", "\u2581"}}}, {"content", " "}},
               {{"type", "Fuse"}}}}}},
           {"added_tokens",
            {{{"id", 0}, {"content", "<x>"}, {"normalized", true}, {"special", true}}}}});
  const auto tokenizer = Made(folder);
  EXPECT_THAT(Encoded(*tokenizer, "a <x> a"), ElementsAre(1, 2, 0, 1, 2));
  EXPECT_EQ(tokenizer->Decode(Ids{1, 2, 0, 1, 2}, false).value(), " a <x> a");
  EXPECT_EQ(tokenizer->Decode(Ids{1, 2, 0, 1, 2}, true).value(), " a a");
}

// Hugging Face's library replaces every byte of such a run; SentencePiece and Trireme keep the
// characters in it, so that a stream need not wait for its end.
TEST(TokenizerTest, CharactersInBrokenRunsOfBytesAreKept) {
  Folder folder;
  folder.Write("tokenizer.json",
               json{{"model",
                     {{"type", "BPE"},
                      {"vocab", Words({"<0x54>", "<0xC3>", "<0xA9>", "a"})},
                      {"merges", json::array()},
                      {"byte_fallback", true}}},
                    {"decoder",
                     {{"type", "Sequence"},
                      {"decoders", {{{"type", "ByteFallback"}}, {{"type", "Fuse"}}}}}}});
  const auto tokenizer = Made(folder);
  const std::string bad = "\xef\xbf\xbd";
  EXPECT_EQ(tokenizer->Decode(Ids{0, 1, 2, 3}, false).value(),
            "T\xc3\xa9"
            "a");
  EXPECT_EQ(tokenizer->Decode(Ids{0, 1, 3}, false).value(), "T" + bad + "a");
  EXPECT_EQ(tokenizer->Decode(Ids{2, 0, 1, 2, 1}, false).value(), bad + "T\xc3\xa9" + bad);
}

TEST(TokenizerTest, WordPieceTakesTheLongestPieces) {
  json file = WordLevelFile();
  file["model"] = {{"type", "WordPiece"},
                   {"vocab", Words({"[UNK]", "un", "##aff", "##able", "u", "##n"})},
                   {"unk_token", "[UNK]"},
                   {"continuing_subword_prefix", "##"},
                   {"max_input_chars_per_word", 9}};
  file["decoder"] = {{"type", "WordPiece"}, {"prefix", "##"}, {"cleanup", true}};
  const auto t = Made(Folder().Write("tokenizer.json", file));
  EXPECT_THAT(Encoded(*t, "unaffable un"), ElementsAre(1, 2, 3, 1));
  EXPECT_THAT(Encoded(*t, "unx unaffablee"), ElementsAre(0, 0));
  EXPECT_EQ(*t->Decode(Ids{1, 2, 3, 1}, false), "unaffable un");
}

TEST(TokenizerTest, UnigramTakesTheBestCut) {
  json file = WordLevelFile();
  file["model"] = {
      {"type", "Unigram"},
      {"unk_id", 0},
      {"vocab", json::parse(R"([["<unk>",0],["a",-1],["b",-1],["ab",-1.5],["abc",-9],["c",-3]])")}};
  file["decoder"] = {{"type", "Fuse"}};
  const auto t = Made(Folder().Write("tokenizer.json", file));
  EXPECT_THAT(Encoded(*t, "abc"), ElementsAre(3, 5));
  EXPECT_THAT(Encoded(*t, "axxb"), ElementsAre(1, 0, 2));  // unknown ones are one token
  EXPECT_EQ(*t->Decode(Ids{3, 5}, false), "abc");
}

TEST(TokenizerTest, TemplatesTruncationAndPadding) {
  json file = WordLevelFile();
  file["post_processor"] = {{"type", "TemplateProcessing"},
                            {"single",
                             {{{"SpecialToken", {{"id", "<m>"}, {"type_id", 0}}}},
                              {{"Sequence", {{"id", "A"}, {"type_id", 0}}}},
                              {{"SpecialToken", {{"id", "<m>"}, {"type_id", 0}}}}}},
                            {"special_tokens", {{"<m>", {{"id", "<m>"}, {"ids", {3}}}}}}};
  file["truncation"] = {{"max_length", 4}, {"direction", "Left"}};
  file["padding"] = {{"strategy", {{"Fixed", 5}}}, {"direction", "Right"}, {"pad_id", 0}};
  const auto t = Made(Folder().Write("tokenizer.json", file));
  EXPECT_THAT(Encoded(*t, "a b a", true), ElementsAre(3, 1, 2, 1, 3));
  EXPECT_THAT(*t->EncodeAsConfigured("a b a", true), ElementsAre(3, 2, 1, 3, 0));
  EXPECT_THAT(*t->EncodeAsConfigured("a", false), ElementsAre(1, 0, 0, 0, 0));
  EXPECT_EQ(t->limits().truncation->max_length, 4u);
}

json ByteLevelFile() {
  return {{"model",
           {{"type", "BPE"},
            {"vocab", Words({"a", "b", "ab", "\xc4\xa0",
                             "\xc4\xa0"
                             "a",
                             "\xc3\x83", "\xc2\xa9"})},
            {"merges", {"\xc4\xa0 a", "a b"}}}},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
          {"decoder", {{"type", "ByteLevel"}}}};
}

TEST(TokenizerTest, BpeMergesByRank) {
  const auto t = Made(Folder().Write("tokenizer.json", ByteLevelFile()));
  EXPECT_THAT(Encoded(*t, "ab"), ElementsAre(2));
  EXPECT_THAT(Encoded(*t, " ab"), ElementsAre(4, 1));  // "space a" comes first
  EXPECT_THAT(Encoded(*t, "a\xc3\xa9"), ElementsAre(0, 5, 6));
  EXPECT_EQ(t->TokenBytes(5), "\xc3");
  EXPECT_EQ(t->IdToToken(4),
            "\xc4\xa0"
            "a");
  EXPECT_EQ(t->TokenBytes(4), " a");
  EXPECT_EQ(t->TokenToId("\xc4\xa0"
                         "a"),
            4);
  EXPECT_FALSE(t->TokenToId(" a").has_value());
}

TEST(TokenizerTest, LongWordsMergeLikeShortOnes) {
  const auto t = Made(Folder().Write("tokenizer.json", ByteLevelFile()));
  for (size_t n = 1; n < 200; ++n) {
    std::string word;
    Ids expected;
    for (size_t i = 0; i < n; ++i) {
      word += "ab";
      expected.push_back(2);
    }
    EXPECT_EQ(Encoded(*t, word), expected);
    expected.back() = 0;
    EXPECT_EQ(Encoded(*t, word.substr(0, word.size() - 1)), expected);
  }
}

TEST(TokenizerTest, ConfigurationDecidesTheSpecialTokens) {
  Folder folder;
  folder.Write("tokenizer.json", WordLevelFile());
  folder.Write("tokenizer_config.json",
               json{{"bos_token", {{"content", "<m>"}}},
                    {"eos_token", "<end>"},
                    {"add_bos_token", true},
                    {"added_tokens_decoder", {{"7", {{"content", "<end>"}, {"special", true}}}}}});
  folder.Write("generation_config.json", json{{"eos_token_id", {7, 2}}, {"pad_token_id", 1}});
  const auto t = Made(folder);
  EXPECT_EQ(t->bos_id(), 3);
  EXPECT_EQ(t->eos_id(), 7);
  EXPECT_EQ(t->pad_id(), 1);
  EXPECT_THAT(t->end_ids(), ElementsAre(7, 2));
  EXPECT_THAT(Encoded(*t, "a<end>", true), ElementsAre(3, 1, 7));
  EXPECT_TRUE(t->IsSpecial(3));
}

TEST(TokenizerTest, IdsOfTheWrongKindNameTheFileAndKey) {
  for (const json& wrong : {json("</s>"), json{1, "2"}, json(1.5), json(-7), json{{"id", 1}}}) {
    for (const char* file : {"config.json", "generation_config.json"}) {
      Folder folder;
      folder.Write("tokenizer.json", WordLevelFile());
      folder.Write(file, json{{"eos_token_id", wrong}});
      const auto tokenizer = Tokenizer::Load(folder.path());
      ASSERT_FALSE(tokenizer.ok()) << wrong;
      const std::string message(tokenizer.status().message());
      EXPECT_NE(message.find(file), std::string::npos) << message;
      EXPECT_NE(message.find("eos_token_id"), std::string::npos) << message;
    }
  }
  Folder folder;
  folder.Write("tokenizer.json", WordLevelFile());
  folder.Write("config.json", json{{"pad_token_id", -1}, {"bos_token_id", nullptr}});
  EXPECT_FALSE(Made(folder)->pad_id().has_value());
}

TEST(TokenizerTest, ReadsVocabularyAndMerges) {
  Folder folder;
  folder.Write("vocab.json", ByteLevelFile()["model"]["vocab"]);
  folder.Write("merges.txt", std::string("#version: 0.2\n\xc4\xa0 a\r\na b\n"));
  const auto t = Made(folder);
  EXPECT_THAT(Encoded(*t, " ab ab"), ElementsAre(4, 1, 4, 1));
}

TEST(TokenizerTest, ReadsTiktokenFiles) {
  // "a", "b", "ab", " "
  Folder folder;
  folder.Write("some.tiktoken", std::string("YQ== 0\nYg== 1\nYWI= 2\nIA== 3\n"));
  const auto t = Made(folder);
  EXPECT_THAT(Encoded(*t, "ab b"), ElementsAre(2, 3, 1));
  EXPECT_EQ(t->TokenToId("<|endoftext|>"), 4);
  EXPECT_THAT(Encoded(*t, "<|im_start|>"), ElementsAre(5));
}

TEST(TokenizerTest, ReadsWordPieceLists) {
  Folder folder;
  folder.Write("vocab.txt", std::string("[UNK]\n[CLS]\n[SEP]\nun\n##do\n!\n"));
  folder.Write("special_tokens_map.json", json{{"cls_token", "[CLS]"}, {"sep_token", "[SEP]"}});
  const auto t = Made(folder);
  EXPECT_THAT(Encoded(*t, "UNDO!", true), ElementsAre(1, 3, 4, 5, 2));
}

TEST(CutStyleTest, TellsHowAVocabularyWasCut) {
  Vocab plain(true), modern(true), single(true);
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(plain.AddText(" " + std::to_string(1000 + i), i).ok());
    ASSERT_TRUE(modern.AddText(std::to_string(100 + i), i).ok());
  }
  int id = 1000;
  for (Vocab* vocab : {&modern, &single})
    for (char c = 'a'; c <= 'z'; ++c) ASSERT_TRUE(vocab->AddText(std::string("(") + c, id++).ok());
  EXPECT_THAT(GuessCutStyle(plain).pattern, HasSubstr(R"( ?\p{N}+)"));
  EXPECT_THAT(GuessCutStyle(modern).pattern, HasSubstr(R"(\p{N}{1,3})"));
  EXPECT_FALSE(GuessCutStyle(modern).nfc);
  EXPECT_THAT(GuessCutStyle(single).pattern, HasSubstr(R"(|\p{N}|)"));
  EXPECT_TRUE(GuessCutStyle(single).nfc);
}

struct Refusal {
  const char* name;
  std::function<void(json&)> damage;
  const char* says;
};

class RefusalTest : public ::testing::TestWithParam<Refusal> {};

TEST_P(RefusalTest, SaysWhatIsWrong) {
  json file = ByteLevelFile();
  GetParam().damage(file);
  const auto loaded = Folder().Write("tokenizer.json", file).Load();
  ASSERT_FALSE(loaded.ok());
  EXPECT_THAT(loaded.status().ToString(), HasSubstr(GetParam().says));
  EXPECT_THAT(loaded.status().ToString(), HasSubstr("tokenizer.json"));
}

INSTANTIATE_TEST_SUITE_P(
    All, RefusalTest,
    ::testing::Values(
        Refusal{"Dropout", [](json& f) { f["model"]["dropout"] = 0.1; }, "dropout"},
        Refusal{"NoModel", [](json& f) { f.erase("model"); }, "model"},
        Refusal{"ModelType", [](json& f) { f["model"]["type"] = "Magic"; }, "Magic"},
        Refusal{"MergeOfUnknown", [](json& f) { f["model"]["merges"] = {"a q"}; }, "'q'"},
        Refusal{"MergeToUnknown", [](json& f) { f["model"]["merges"] = {"b a"}; },
                "not in the vocabulary"},
        Refusal{"MergeOfOne", [](json& f) { f["model"]["merges"] = {"ab"}; }, "two tokens"},
        Refusal{"NegativeId", [](json& f) { f["model"]["vocab"]["z"] = -1; }, "'z'"},
        Refusal{"HugeId", [](json& f) { f["model"]["vocab"]["z"] = 4000000000; }, "4000000000"},
        Refusal{"VocabType", [](json& f) { f["model"]["vocab"] = 3; }, "vocab"},
        Refusal{"UnkToken", [](json& f) { f["model"]["unk_token"] = "<u>"; }, "<u>"},
        Refusal{"Normalizer",
                [](json& f) {
                  f["normalizer"] = {{"type", "Magic"}};
                },
                "Magic"},
        Refusal{"PreTokenizer",
                [](json& f) {
                  f["pre_tokenizer"] = {{"type", "Magic"}};
                },
                "Magic"},
        Refusal{"Decoder",
                [](json& f) {
                  f["decoder"] = {{"type", "Magic"}};
                },
                "Magic"},
        Refusal{"PostProcessor",
                [](json& f) {
                  f["post_processor"] = {{"type", "Magic"}};
                },
                "Magic"},
        Refusal{"Regex",
                [](json& f) {
                  f["pre_tokenizer"] = {
                      {"type", "Split"}, {"pattern", {{"Regex", "(a"}}}, {"behavior", "Isolated"}};
                },
                "(a"},
        Refusal{"Charsmap",
                [](json& f) {
                  f["normalizer"] = {{"type", "Precompiled"}, {"precompiled_charsmap", "AAAA"}};
                },
                "character map"},
        Refusal{"AddedToken",
                [](json& f) {
                  f["added_tokens"] = {{{"content", "x"}}};
                },
                "'x'"}),
    [](const ::testing::TestParamInfo<Refusal>& info) { return info.param.name; });

TEST(TokenizerTest, RefusesDamagedAndMissingFiles) {
  EXPECT_EQ(Folder().Load().status().code(), StatusCode::kNotFound);
  EXPECT_EQ(Folder().Write("tokenizer.json", std::string("{\"model\": ")).Load().status().code(),
            StatusCode::kInvalidArgument);
  EXPECT_FALSE(Folder().Write("tokenizer.json", std::string("")).Load().ok());
  EXPECT_FALSE(Folder().Write("tokenizer.json", std::string("{\"a\": \"\xff\"}")).Load().ok());
  EXPECT_FALSE(Folder().Write("tokenizer.model", std::string("\x0a\x05")).Load().ok());
  EXPECT_FALSE(Folder().Write("x.tiktoken", std::string("!! 0\n")).Load().ok());
  Folder folder;
  folder.Write("tokenizer.json", WordLevelFile()).Write("tokenizer_config.json", std::string("{"));
  EXPECT_THAT(folder.Load().status().ToString(), HasSubstr("tokenizer_config.json"));
}

}  // namespace
}  // namespace trireme
