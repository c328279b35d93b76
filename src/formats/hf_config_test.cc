// SPDX-License-Identifier: Apache-2.0
#include "formats/hf_config.h"

#include <gmock/gmock.h>

#include <cmath>

#include "formats/test_files.h"

namespace trireme {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

HfConfig MustParse(std::string_view text) {
  StatusOr<HfConfig> config = HfConfig::Parse(text, "m/config.json");
  EXPECT_TRUE(config.ok()) << config.status().ToString();
  return *std::move(config);
}

TEST(HfConfigTest, FirstKeyThatIsThereWins) {
  const HfConfig config = MustParse(R"({"n_head": 12, "hidden_size": null, "n_embd": 768})");
  EXPECT_EQ(config.GetInt({"num_attention_heads", "n_head"})->value(), 12);
  EXPECT_EQ(config.GetInt({"hidden_size", "n_embd"})->value(), 768);
  EXPECT_FALSE(config.GetInt({"n_inner"})->has_value());
  EXPECT_EQ(*config.GetIntOr({"n_inner"}, 5), 5);
  EXPECT_EQ(*config.RequireCount({"hidden_size", "n_embd"}), 768);
}

TEST(HfConfigTest, WrongTypesNameFileAndKey) {
  const HfConfig config = MustParse(
      R"({"i": "12", "d": [1], "b": 1, "s": 2, "a": [1, "x"], "o": [], "f": 1.5, "n": -4,
          "huge": 18446744073709551615})");
  for (const Status& status :
       {config.GetInt({"i"}).status(), config.GetInt({"f"}).status(),
        config.GetDouble({"d"}).status(), config.GetBool({"b"}).status(),
        config.GetString({"s"}).status(), config.GetInts({"a"}).status(),
        config.GetStrings({"a"}).status(), config.GetObject({"o"}).status(),
        config.RequireCount({"n"}).status(), config.GetInt({"huge"}).status(),
        config.RequireCount({"absent"}).status()}) {
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("m/config.json"));
  }
  EXPECT_THAT(std::string(config.GetInt({"i"}).status().message()), HasSubstr("'i'"));
}

TEST(HfConfigTest, DtypeInBothSpellings) {
  EXPECT_EQ(MustParse(R"({"torch_dtype": "bfloat16"})").GetDType()->value(), DType::kBFloat16);
  EXPECT_EQ(MustParse(R"({"dtype": "float16"})").GetDType()->value(), DType::kFloat16);
  EXPECT_FALSE(MustParse(R"({"dtype": "auto"})").GetDType()->has_value());
  EXPECT_FALSE(MustParse(R"({"dtype": "complex64"})").GetDType().ok());
}

TEST(HfConfigTest, ArchitecturesAndNestedObjects) {
  const HfConfig config = MustParse(
      R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama",
          "quantization_config": {"bits": 4}, "window": [1, 2], "f": [1, 2.5]})");
  EXPECT_THAT(*config.Architectures(), ElementsAre("LlamaForCausalLM"));
  EXPECT_EQ(*config.ModelType(), "llama");
  auto quantization = config.GetObject({"quantization_config"});
  ASSERT_TRUE(quantization.ok());
  EXPECT_EQ((*quantization)->GetInt({"bits"})->value(), 4);
  EXPECT_FALSE(config.GetObject({"text_config"})->has_value());
  EXPECT_THAT(*config.GetInts({"window"}), ElementsAre(1, 2));
  EXPECT_THAT(*config.GetDoubles({"f"}), ElementsAre(1, 2.5));
  EXPECT_EQ(config.JsonOf("quantization_config"), R"({"bits":4})");
}

TEST(HfConfigTest, OlderAndNewerRopeKeysAgree) {
  const ParsedRope older = *MustParse(R"({"max_position_embeddings": 131072, "rope_theta": 500000.0,
      "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                       "original_max_position_embeddings": 8192, "rope_type": "llama3"}})")
                                .GetRope();
  const ParsedRope newer = *MustParse(R"({"max_position_embeddings": 131072,
      "rope_parameters": {"rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
                          "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
                          "rope_type": "llama3"}})")
                                .GetRope();
  EXPECT_EQ(older.theta, 500000.0);
  EXPECT_EQ(newer.theta, 500000.0);
  EXPECT_EQ(older.scaling.type, "llama3");
  EXPECT_EQ(older.scaling.factor, 8.0);
  EXPECT_TRUE(older.scaling == newer.scaling);
}

TEST(HfConfigTest, RopeDefaults) {
  const ParsedRope rope = *MustParse(R"({"rope_scaling": null})").GetRope();
  EXPECT_EQ(rope.theta, 10000.0);
  EXPECT_FALSE(rope.has_theta);
  EXPECT_EQ(rope.scaling.type, "none");
  EXPECT_EQ(MustParse(R"({"rope_parameters": {"rope_type": "default", "rope_theta": 7,
                          "partial_rotary_factor": 0.5}})")
                .GetRope()
                ->partial_rotary_factor,
            0.5);
}

TEST(HfConfigTest, RopePerLayerType) {
  const HfConfig config = MustParse(R"({"rope_parameters": {
      "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000000.0},
      "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}})");
  EXPECT_EQ(config.GetRope()->theta, 1000000.0);
  EXPECT_EQ(config.GetRope()->scaling.factor, 8.0);
  EXPECT_EQ(config.GetRope("sliding_attention")->theta, 10000.0);
  EXPECT_EQ(config.GetRope("sliding_attention")->scaling.type, "none");
}

TEST(HfConfigTest, RopeScalingsOfEveryType) {
  EXPECT_EQ(
      MustParse(R"({"rope_scaling": {"type": "linear", "factor": 4}})").GetRope()->scaling.factor,
      4.0);
  const ParsedRope dynamic =
      *MustParse(
           R"({"max_position_embeddings": 4096, "rope_scaling": {"type": "dynamic", "factor": 2.0}})")
           .GetRope();
  EXPECT_EQ(dynamic.scaling.original_max_position_embeddings, 4096);
  const ParsedRope yarn = *MustParse(R"({"max_position_embeddings": 131072, "rope_scaling":
      {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768,
       "beta_fast": 16, "truncate": false}})")
                               .GetRope();
  EXPECT_EQ(yarn.scaling.beta_fast, 16);
  EXPECT_FALSE(yarn.scaling.truncate);
  const ParsedRope longrope = *MustParse(R"({"max_position_embeddings": 131072,
      "original_max_position_embeddings": 4096,
      "rope_scaling": {"type": "su", "short_factor": [1, 1.5], "long_factor": [2, 3]}})")
                                   .GetRope();
  EXPECT_EQ(longrope.scaling.type, "longrope");
  EXPECT_EQ(longrope.scaling.factor, 32.0);
  EXPECT_THAT(longrope.scaling.long_factor, ElementsAre(2, 3));
}

TEST(HfConfigTest, BadRopeIsRefused) {
  for (const char* text :
       {R"({"rope_scaling": {"type": "mystery", "factor": 2}})", R"({"rope_scaling": 3})",
        R"({"rope_scaling": {"type": "linear"}})", R"({"rope_scaling": {"type": 1}})",
        R"({"rope_scaling": {"type": "linear", "factor": "2"}})",
        R"({"rope_scaling": {"type": "linear", "factor": -2}})",
        R"({"rope_scaling": {"type": "longrope", "short_factor": [1]}})",
        R"({"rope_scaling": {"type": "llama3", "factor": 8, "low_freq_factor": 4}})",
        R"({"rope_scaling": {"type": "llama3", "low_freq_factor": 1, "high_freq_factor": 4,
            "original_max_position_embeddings": 8192}})",
        R"({"rope_scaling": {"type": "llama3", "factor": 8, "high_freq_factor": 4,
            "original_max_position_embeddings": 8192}})",
        R"({"rope_scaling": {"type": "llama3", "factor": 8, "low_freq_factor": 1,
            "original_max_position_embeddings": 8192}})",
        R"({"max_position_embeddings": 131072, "rope_scaling": {"type": "llama3", "factor": 8,
            "low_freq_factor": 1, "high_freq_factor": 4}})",
        R"({"rope_scaling": {"type": "yarn", "factor": 8, "original_max_position_embeddings": 0}})",
        R"({"rope_theta": 0})", R"({"rope_theta": "x"})", R"({"rotary_pct": 2})"}) {
    EXPECT_FALSE(MustParse(text).GetRope().ok()) << text;
  }
  EXPECT_EQ(MustParse(R"({"rope_scaling": {"type": "mystery"}})").GetRope().status().code(),
            StatusCode::kUnimplemented);
}

TEST(HfConfigTest, BadTextIsRefused) {
  EXPECT_FALSE(HfConfig::Parse("", "x").ok());
  EXPECT_FALSE(HfConfig::Parse("[]", "x").ok());
  EXPECT_FALSE(HfConfig::Parse("{\"a\":", "x").ok());
  EXPECT_FALSE(HfConfig::Parse("{\"a\":\"\xff\"}", "x").ok());
  EXPECT_FALSE(HfConfig::Parse(std::string(1'000'000, '['), "x").ok());
  EXPECT_EQ(HfConfig::Load("/nonexistent").status().code(), StatusCode::kNotFound);
}

}  // namespace
}  // namespace trireme
