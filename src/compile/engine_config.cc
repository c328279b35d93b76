// SPDX-License-Identifier: Apache-2.0
#include "compile/engine_config.h"

#include <nlohmann/json.hpp>

#include "base/status.h"
#include "base/version.h"
#include "formats/checkpoint.h"

namespace trireme::compile {
namespace {

using Json = nlohmann::ordered_json;

// plugin_config keys of the format and what stands there when nothing was given. Features that this
// engine always has say so.
constexpr std::pair<const char*, const char*> kPluginDefaults[] = {
    {"bert_attention_plugin", "disable"},
    {"gpt_attention_plugin", ""},  // the engine's dtype
    {"gemm_plugin", ""},           // the engine's dtype
    {"smooth_quant_gemm_plugin", "disable"},
    {"identity_plugin", "disable"},
    {"layernorm_quantization_plugin", "disable"},
    {"rmsnorm_quantization_plugin", "disable"},
    {"nccl_plugin", "disable"},
    {"lookup_plugin", "disable"},
    {"lora_plugin", "disable"},
    {"weight_only_groupwise_quant_matmul_plugin", "disable"},
    {"weight_only_quant_matmul_plugin", "disable"},
    {"quantize_per_token_plugin", "disable"},
    {"quantize_tensor_plugin", "disable"},
    {"moe_plugin", "disable"},
    {"mamba_conv1d_plugin", "disable"},
    {"context_fmha", "enable"},
    {"context_fmha_fp32_acc", "enable"},
    {"paged_kv_cache", "enable"},
    {"remove_input_padding", "enable"},
    {"use_custom_all_reduce", "disable"},
    {"multi_block_mode", "enable"},
    {"enable_xqa", "enable"},
    {"attention_qk_half_accumulation", "disable"},
    {"tokens_per_block", ""},  // a number
    {"use_paged_context_fmha", "enable"},
    {"use_fp8_context_fmha", "disable"},
    {"use_context_fmha_for_generation", "disable"},
    {"multiple_profiles", "enable"},
    {"paged_state", "enable"},
    {"streamingllm", "disable"},
    {"reduce_fusion", "disable"},
};

// "enable" and "disable" are booleans in the file, "disable" of a dtype plugin is null.
Json PluginValue(const std::string& key, const std::string& value) {
  const bool is_dtype_plugin = key.ends_with("_plugin");
  if (value == "enable") return true;
  if (value == "disable") return is_dtype_plugin ? Json(nullptr) : Json(false);
  return value;
}

Json PluginConfigJson(const BuildOptions& options, const BuildLimits& limits,
                      const std::string& dtype) {
  Json json = Json::object();
  for (const auto& [key, value] : kPluginDefaults) json[key] = PluginValue(key, value);
  json["gpt_attention_plugin"] = dtype;
  json["gemm_plugin"] = dtype;
  for (const auto& [key, value] : options.plugin_config) {
    json[key] = PluginValue(key, value == "auto" ? dtype : value);
  }
  json["tokens_per_block"] = limits.tokens_per_block;
  return json;
}

Json BuildConfigJson(const ModelConfig& config, const BuildOptions& options,
                     const BuildLimits& limits) {
  Json json = Json::object();
  json["max_input_len"] = limits.max_input_len;
  json["max_output_len"] = limits.max_output_len;
  json["max_seq_len"] = limits.max_seq_len;
  json["opt_batch_size"] = nullptr;
  json["max_batch_size"] = limits.max_batch_size;
  json["max_beam_width"] = limits.max_beam_width;
  json["max_num_tokens"] = limits.max_num_tokens;
  json["opt_num_tokens"] = limits.max_batch_size * limits.max_beam_width;
  json["max_prompt_embedding_table_size"] = 0;
  json["gather_context_logits"] = true;
  json["gather_generation_logits"] = true;
  json["strongly_typed"] = true;
  json["builder_opt"] = nullptr;
  json["profiling_verbosity"] = options.profiling_verbosity;
  json["batch_invariant"] = options.batch_invariant;
  json["enable_debug_output"] = false;
  json["max_draft_len"] = 0;
  json["speculative_decoding_mode"] = 1;
  json["use_refit"] = false;
  json["input_timing_cache"] =
      options.input_timing_cache.empty() ? Json(nullptr) : Json(options.input_timing_cache);
  json["output_timing_cache"] = options.output_timing_cache;
  json["lora_config"] = {{"lora_dir", Json::array()},
                         {"lora_ckpt_source", "hf"},
                         {"max_lora_rank", 64},
                         {"lora_target_modules", Json::array()},
                         {"trtllm_modules_to_hf_modules", Json::object()}};
  json["auto_parallel_config"] = {{"world_size", 1},
                                  {"gpus_per_node", config.mapping.gpus_per_node},
                                  {"cluster_key", nullptr},
                                  {"cluster_info", nullptr},
                                  {"enabled", false}};
  json["weight_sparsity"] = false;
  json["weight_streaming"] = false;
  json["use_strip_plan"] = false;
  json["max_encoder_input_len"] = 1024;
  json["use_fused_mlp"] = true;
  json["device"] = options.device;
  json["network_name"] = options.network_name;
  json["plugin_config"] = PluginConfigJson(options, limits, config.dtype);
  return json;
}

// Far above what any machine serves, far below what would overflow a size.
constexpr int kMaxBatchSize = 1 << 16;
constexpr int kMaxTokens = 1 << 24;

Status CheckRange(std::string_view name, int value, int min, int max) {
  if (value >= min && value <= max) return OkStatus();
  return InvalidArgument("--{} must be from {} to {}, it is {}", name, min, max, value);
}

}  // namespace

StatusOr<BuildLimits> ResolveLimits(const BuildLimits& given, const ModelConfig& config) {
  BuildLimits limits = given;
  TRIREME_RETURN_IF_ERROR(CheckRange("max_batch_size", limits.max_batch_size, 1, kMaxBatchSize));
  TRIREME_RETURN_IF_ERROR(CheckRange("max_num_tokens", limits.max_num_tokens, 1, kMaxTokens));
  for (const auto& [name, value] : {std::pair("max_input_len", limits.max_input_len),
                                    {"max_output_len", limits.max_output_len},
                                    {"max_seq_len", limits.max_seq_len}}) {
    TRIREME_RETURN_IF_ERROR(CheckRange(name, value, 0, kMaxTokens));
  }
  if (limits.max_beam_width != 1) {
    return Unimplemented("--max_beam_width {}: beam search does not exist yet; use 1",
                         limits.max_beam_width);
  }
  const int block = limits.tokens_per_block;
  if (block < 8 || block > 1024 || (block & (block - 1)) != 0) {
    return InvalidArgument("--tokens_per_block must be a power of two from 8 to 1024, it is {}",
                           block);
  }
  if (limits.max_seq_len == 0) {
    if (limits.max_input_len > 0 && limits.max_output_len > 0) {
      limits.max_seq_len = limits.max_input_len + limits.max_output_len;
    } else {
      limits.max_seq_len =
          config.max_position_embeddings > 0 ? config.max_position_embeddings : 2048;
    }
  }
  if (limits.max_input_len == 0) limits.max_input_len = limits.max_seq_len - 1;
  if (limits.max_output_len == 0) limits.max_output_len = limits.max_seq_len - 1;
  if (limits.max_seq_len < 2) {
    return InvalidArgument("a sequence of {} tokens has no room for a prompt and an output",
                           limits.max_seq_len);
  }
  if (limits.max_input_len >= limits.max_seq_len + 1) {
    return InvalidArgument("--max_input_len {} exceeds --max_seq_len {}", limits.max_input_len,
                           limits.max_seq_len);
  }
  return limits;
}

std::string EngineConfigJson(const ModelConfig& config, const BuildOptions& options,
                             const BuildLimits& limits) {
  Json json = Json::object();
  json["version"] = std::string(Version());
  json["pretrained_config"] = Json::parse(CheckpointConfigJson(config));
  json["build_config"] = BuildConfigJson(config, options, limits);
  return json.dump(4) + "\n";
}

}  // namespace trireme::compile
