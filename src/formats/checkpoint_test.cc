// SPDX-License-Identifier: Apache-2.0
#include "formats/checkpoint.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "formats/test_files.h"

namespace trireme {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

ModelConfig Qwen2() {
  ModelConfig config;
  config.architecture = "QWenForCausalLM";
  config.dtype = "bfloat16";
  config.vocab_size = 151936;
  config.max_position_embeddings = 32768;
  config.hidden_size = 896;
  config.num_hidden_layers = 24;
  config.num_attention_heads = 14;
  config.num_key_value_heads = 2;
  config.head_size = 64;
  config.intermediate_size = 4864;
  config.norm_epsilon = 1e-6;
  config.rotary_base = 1e6;
  config.attn_bias = true;
  config.extra = {{"qwen_type", "\"qwen2\""}, {"disable_weight_only_quant_plugin", "false"}};
  return config;
}

TEST(CheckpointTest, KeysStandInTheOrderOfTheReference) {
  const auto root = nlohmann::ordered_json::parse(CheckpointConfigJson(Qwen2()));
  std::vector<std::string> keys;
  for (const auto& [key, value] : root.items()) keys.push_back(key);
  EXPECT_THAT(
      keys,
      ElementsAre("architecture", "dtype", "logits_dtype", "vocab_size", "max_position_embeddings",
                  "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
                  "head_size", "qk_layernorm", "hidden_act", "intermediate_size", "norm_epsilon",
                  "position_embedding_type", "use_parallel_embedding", "embedding_sharding_dim",
                  "share_embedding_table", "mapping", "quantization", "kv_dtype", "rotary_scaling",
                  "rotary_base", "qwen_type", "disable_weight_only_quant_plugin"));
  EXPECT_TRUE(root["quantization"]["quant_algo"].is_null());
  EXPECT_TRUE(root["rotary_scaling"].is_null());
  EXPECT_EQ(root["kv_dtype"], "bfloat16");
  EXPECT_EQ(root["quantization"].begin().key(), "quant_algo");
}

TEST(CheckpointTest, RoundTripKeepsEverything) {
  ModelConfig config = Qwen2();
  config.mapping = {.world_size = 4, .tp_size = 2, .pp_size = 2};
  config.quantization.quant_algo = "W4A16";
  config.quantization.kv_cache_quant_algo = "FP8";
  config.quantization.smoothquant_val = 0.25;
  config.quantization.exclude_modules = {"lm_head", "router"};
  config.rotary_scaling.type = "yarn";
  config.rotary_scaling.factor = 4;
  config.rotary_scaling.original_max_position_embeddings = 32768;
  config.rotary_scaling.truncate = false;
  config.rotary_pct = 0.25;
  config.attn_bias = false;
  config.mlp_bias = true;
  config.moe = {.num_experts = 8, .top_k = 2};
  config.attention_window_sizes = {0, 4096};
  config.extra["custom"] = R"({"a":[1,2]})";
  const std::string text = CheckpointConfigJson(config);
  const StatusOr<ModelConfig> again = ParseCheckpointConfig(text);
  ASSERT_TRUE(again.ok()) << again.status().ToString();
  EXPECT_EQ(CheckpointConfigJson(*again), text);
  EXPECT_TRUE(again->rotary_scaling == config.rotary_scaling);
  EXPECT_EQ(again->quantization.smoothquant_val, 0.25);
  EXPECT_THAT(again->attention_window_sizes, ElementsAre(0, 4096));
  EXPECT_EQ(again->mapping.world_size, 4);
  EXPECT_EQ(again->moe.top_k, 2);
  EXPECT_FALSE(again->attn_bias);
  EXPECT_EQ(again->extra.at("custom"), R"({"a":[1,2]})");
}

TEST(CheckpointTest, AbsentKeysTakeTheReferencesDefaults) {
  const StatusOr<ModelConfig> config = ParseCheckpointConfig(
      R"({"architecture": "GPTForCausalLM", "dtype": "float16", "vocab_size": 100,
          "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
          "hidden_act": "gelu", "intermediate_size": null, "quantization": {"exclude_modules": null}})");
  ASSERT_TRUE(config.ok()) << config.status().ToString();
  EXPECT_EQ(config->num_key_value_heads, 4);
  EXPECT_EQ(config->head_size, 16);
  EXPECT_EQ(config->intermediate_size, 256);
  EXPECT_EQ(config->position_embedding_type, "learned_absolute");
  EXPECT_EQ(config->norm_epsilon, 1e-5);
  EXPECT_THAT(config->quantization.exclude_modules, ElementsAre("lm_head"));
  EXPECT_FALSE(config->attn_bias);
}

TEST(CheckpointTest, MistakesAreNamed) {
  const std::string good = CheckpointConfigJson(Qwen2());
  const std::tuple<const char*, const char*, const char*> cases[] = {
      {R"("vocab_size": 151936)", R"("vocab_size": "151936")", "vocab_size"},
      {R"("vocab_size": 151936)", R"("vocab_size": -1)", "vocab_size"},
      {R"("vocab_size": 151936)", R"("vocab_size": 18446744073709551615)", "vocab_size"},
      {R"("hidden_size": 896)", R"("hidden_sise": 896)", "hidden_size"},
      {R"("dtype": "bfloat16")", R"("dtype": "bfloat15")", "bfloat15"},
      {R"("tp_size": 1)", R"("tp_size": 2)", "world_size"},
      {R"("tp_size": 1)", R"("tp_size": 0)", "mapping.tp_size"},
      {R"("num_hidden_layers": 24)", R"("num_hidden_layers": 2000000000)", "num_hidden_layers"},
      {R"("group_size": 128)", R"("group_size": [])", "quantization.group_size"},
      {R"("rotary_scaling": null)", R"("rotary_scaling": {"type": "odd"})", "odd"},
      {R"("architecture": "QWenForCausalLM")", R"("architectures": ["Qwen2ForCausalLM"])",
       "trireme convert"},
  };
  for (const auto& [from, to, message] : cases) {
    std::string text = good;
    const size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    text.replace(at, std::string_view(from).size(), to);
    const StatusOr<ModelConfig> config = ParseCheckpointConfig(text);
    ASSERT_FALSE(config.ok()) << to;
    EXPECT_THAT(std::string(config.status().message()), HasSubstr(message));
  }
}

TEST(CheckpointTest, LoadsFromDirectoryOrFile) {
  TestFolder folder;
  folder.Put("config.json", CheckpointConfigJson(Qwen2()));
  EXPECT_EQ(LoadCheckpointConfig(folder.path())->hidden_size, 896);
  EXPECT_EQ(LoadCheckpointConfig(folder.File("config.json"))->hidden_size, 896);
  EXPECT_EQ(LoadCheckpointConfig(folder.File("absent")).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(RankFile("dir", 3), "dir/rank3.safetensors");
}

}  // namespace
}  // namespace trireme
