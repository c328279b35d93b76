// SPDX-License-Identifier: Apache-2.0
// The keys that tools written for the reference read in config.json: of a checkpoint converted from
// a model of Qwen1.5-14B-Chat's dimensions, and of an engine built from it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/mapped_file.h"
#include "convert/convert.h"
#include "trireme/builder.h"

namespace trireme {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;
using Keys = std::vector<std::string>;

// The dimensions published for the model, in the keys of its time.
constexpr char kHfConfig[] = R"({
  "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "torch_dtype": "bfloat16",
  "hidden_act": "silu", "hidden_size": 5120, "intermediate_size": 13696,
  "num_hidden_layers": 40, "num_attention_heads": 40, "num_key_value_heads": 40,
  "max_position_embeddings": 32768, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0,
  "sliding_window": 32768, "max_window_layers": 35, "use_sliding_window": false,
  "tie_word_embeddings": false, "vocab_size": 152064})";

// In the order in which the reference writes them for this family.
const Keys kCheckpointKeys = {"architecture",
                              "dtype",
                              "logits_dtype",
                              "vocab_size",
                              "max_position_embeddings",
                              "hidden_size",
                              "num_hidden_layers",
                              "num_attention_heads",
                              "num_key_value_heads",
                              "head_size",
                              "qk_layernorm",
                              "hidden_act",
                              "intermediate_size",
                              "norm_epsilon",
                              "position_embedding_type",
                              "use_parallel_embedding",
                              "embedding_sharding_dim",
                              "share_embedding_table",
                              "mapping",
                              "quantization",
                              "kv_dtype",
                              "rotary_scaling",
                              "rotary_base",
                              "qwen_type",
                              "disable_weight_only_quant_plugin"};
const Keys kMappingKeys = {"world_size", "tp_size", "pp_size", "gpus_per_node"};
const Keys kQuantizationKeys = {"quant_algo",      "kv_cache_quant_algo", "group_size",
                                "smoothquant_val", "has_zero_point",      "pre_quant_scale",
                                "exclude_modules"};

const Keys kBuildKeys = {"max_input_len",
                         "max_output_len",
                         "opt_batch_size",
                         "max_batch_size",
                         "max_beam_width",
                         "max_num_tokens",
                         "opt_num_tokens",
                         "max_prompt_embedding_table_size",
                         "gather_context_logits",
                         "gather_generation_logits",
                         "strongly_typed",
                         "builder_opt",
                         "profiling_verbosity",
                         "enable_debug_output",
                         "max_draft_len",
                         "speculative_decoding_mode",
                         "use_refit",
                         "input_timing_cache",
                         "output_timing_cache",
                         "lora_config",
                         "auto_parallel_config",
                         "weight_sparsity",
                         "weight_streaming",
                         "use_strip_plan",
                         "max_encoder_input_len",
                         "use_fused_mlp",
                         "plugin_config"};
const Keys kLoraKeys = {"lora_dir", "lora_ckpt_source", "max_lora_rank", "lora_target_modules",
                        "trtllm_modules_to_hf_modules"};
const Keys kAutoParallelKeys = {"world_size", "gpus_per_node", "cluster_key", "cluster_info"};
const Keys kPluginKeys = {"bert_attention_plugin",
                          "gpt_attention_plugin",
                          "gemm_plugin",
                          "lookup_plugin",
                          "lora_plugin",
                          "moe_plugin",
                          "mamba_conv1d_plugin",
                          "nccl_plugin",
                          "context_fmha",
                          "context_fmha_fp32_acc",
                          "paged_kv_cache",
                          "remove_input_padding",
                          "use_custom_all_reduce",
                          "multi_block_mode",
                          "enable_xqa",
                          "attention_qk_half_accumulation",
                          "tokens_per_block",
                          "use_paged_context_fmha",
                          "use_fp8_context_fmha",
                          "use_context_fmha_for_generation",
                          "multiple_profiles",
                          "paged_state",
                          "streamingllm",
                          "smooth_quant_gemm_plugin",
                          "identity_plugin",
                          "layernorm_quantization_plugin",
                          "rmsnorm_quantization_plugin",
                          "weight_only_groupwise_quant_matmul_plugin",
                          "weight_only_quant_matmul_plugin",
                          "quantize_per_token_plugin",
                          "quantize_tensor_plugin"};

void ExpectKeys(const Json& json, const Keys& keys, const std::string& where) {
  ASSERT_TRUE(json.is_object()) << where;
  for (const std::string& key : keys) EXPECT_TRUE(json.contains(key)) << where << "." << key;
}

// Those keys of `json` that `keys` lists, in the order of `json`.
Keys InFileOrder(const Json& json, const Keys& keys) {
  Keys found;
  for (const auto& [key, value] : json.items()) {
    if (std::find(keys.begin(), keys.end(), key) != keys.end()) found.push_back(key);
  }
  return found;
}

void ExpectCheckpointKeys(const Json& config, const std::string& where) {
  EXPECT_EQ(InFileOrder(config, kCheckpointKeys), kCheckpointKeys) << where;
  ExpectKeys(config["mapping"], kMappingKeys, where + ".mapping");
  ExpectKeys(config["quantization"], kQuantizationKeys, where + ".quantization");
  EXPECT_EQ(config["architecture"], "QWenForCausalLM");
  EXPECT_EQ(config["qwen_type"], "qwen2");
  EXPECT_EQ(config["logits_dtype"], "float32");
  EXPECT_EQ(config["position_embedding_type"], "rope_gpt_neox");
  EXPECT_EQ(config["head_size"], 128);
  EXPECT_EQ(config["vocab_size"], 152064);
  EXPECT_EQ(config["rotary_base"], 1000000.0);
  EXPECT_EQ(config["norm_epsilon"], 1e-6);
  EXPECT_EQ(config["quantization"]["group_size"], 128);
  EXPECT_EQ(config["quantization"]["exclude_modules"], Json::array({"lm_head"}));
}

Json ReadJson(const std::string& path) {
  const auto text = ReadFile(path);
  EXPECT_TRUE(text.ok()) << text.status().ToString();
  return text.ok() ? Json::parse(*text, nullptr, false) : Json();
}

TEST(ConfigKeysTest, CheckpointAndEngineHoldEveryKeyOfTheReference) {
  ASSERT_TRUE(SetLogLevel("warning").ok());
  const fs::path folder = fs::temp_directory_path() / fmt::format("trireme_keys_{}", ::getpid());
  fs::create_directories(folder / "hf");
  ASSERT_TRUE(WriteFile(folder / "hf/config.json", kHfConfig).ok());
  for (const std::string precision : {"", "int8", "int4"}) {
    Status status = convert::Convert({.model_dir = folder / "hf",
                                      .output_dir = folder / "checkpoint",
                                      .weight_only_precision = precision,
                                      .save_config_only = true},
                                     {});
    ASSERT_TRUE(status.ok()) << status.ToString();
    const Json checkpoint = ReadJson(folder / "checkpoint/config.json");
    ExpectCheckpointKeys(checkpoint, "checkpoint");
    const Json algorithm = precision.empty()     ? Json(nullptr)
                           : precision == "int8" ? Json("W8A16")
                                                 : Json("W4A16");
    EXPECT_EQ(checkpoint["quantization"]["quant_algo"], algorithm);

    BuildOptions options;
    options.model_config = folder / "checkpoint/config.json";
    options.output_dir = folder / "engine";
    options.time_tactics = false;
    status = BuildEngine(options, {});
    ASSERT_TRUE(status.ok()) << status.ToString();
    const Json engine = ReadJson(folder / "engine/config.json");
    ExpectKeys(engine, {"version", "pretrained_config", "build_config"}, "engine");
    ExpectCheckpointKeys(engine["pretrained_config"], "pretrained_config");
    EXPECT_EQ(engine["pretrained_config"]["quantization"]["quant_algo"], algorithm);
    const Json& build = engine["build_config"];
    ExpectKeys(build, kBuildKeys, "build_config");
    ExpectKeys(build["lora_config"], kLoraKeys, "lora_config");
    ExpectKeys(build["auto_parallel_config"], kAutoParallelKeys, "auto_parallel_config");
    ExpectKeys(build["plugin_config"], kPluginKeys, "plugin_config");
  }
  fs::remove_all(folder);
}

}  // namespace
}  // namespace trireme
