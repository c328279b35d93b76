// SPDX-License-Identifier: Apache-2.0
// ModelConfig: the architecture facts of one model, as a checkpoint's config.json holds them.
// Plain data. Field names follow the checkpoint format, whose keys are the field's own.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace trireme {

// Ranks of a model: rank = pp_rank * tp_size + tp_rank.
struct Mapping {
  int world_size = 1;
  int tp_size = 1;
  int pp_size = 1;
  int gpus_per_node = 8;
  int rank = 0;  // of the process or thread at hand; not stored

  int tp_rank() const { return rank % tp_size; }
  int pp_rank() const { return rank / tp_size; }
  bool is_first_pp_rank() const { return pp_rank() == 0; }
  bool is_last_pp_rank() const { return pp_rank() == pp_size - 1; }
};

// Scaling of rotary frequencies. Formulas: docs/formats.md.
struct RotaryScaling {
  // "none", "linear", "dynamic", "longrope", "llama3", "yarn".
  std::string type = "none";
  double factor = 1.0;
  double low_freq_factor = 1.0;                 // llama3
  double high_freq_factor = 4.0;                // llama3
  int original_max_position_embeddings = 8192;  // llama3, yarn, longrope, dynamic
  double attention_factor = 0.0;                // yarn, longrope; 0: from `factor`
  double beta_fast = 32.0;                      // yarn
  double beta_slow = 1.0;                       // yarn
  double mscale = 0.0;                          // yarn
  double mscale_all_dim = 0.0;                  // yarn
  bool truncate = true;                         // yarn
  std::vector<double> short_factor;             // longrope
  std::vector<double> long_factor;              // longrope

  friend bool operator==(const RotaryScaling&, const RotaryScaling&) = default;
};

struct QuantizationConfig {
  // "" (none), "W8A16", "W4A16", "W4A16_AWQ", "FP8", ...
  std::string quant_algo;
  std::string kv_cache_quant_algo;  // "" (none), "FP8", "INT8"
  int group_size = 128;
  std::optional<double> smoothquant_val;
  bool has_zero_point = false;
  bool pre_quant_scale = false;
  std::vector<std::string> exclude_modules = {"lm_head"};
};

struct MoeConfig {
  int num_experts = 0;
  int top_k = 0;
  int tp_mode = 2;             // 2: tensor parallel, 1: expert parallel
  int normalization_mode = 1;  // 1: the chosen experts' weights sum to one
};

struct ModelConfig {
  std::string architecture;  // "LlamaForCausalLM", "QWenForCausalLM", ...
  std::string dtype = "float16";
  std::string logits_dtype = "float32";
  int vocab_size = 0;
  int max_position_embeddings = 0;  // 0: unknown
  int hidden_size = 0;
  int num_hidden_layers = 0;
  int num_attention_heads = 0;
  int num_key_value_heads = 0;
  int head_size = 0;
  bool qk_layernorm = false;
  std::string hidden_act = "silu";
  int intermediate_size = 0;
  double norm_epsilon = 1e-5;
  std::string position_embedding_type = "rope_gpt_neox";
  bool use_parallel_embedding = false;
  int embedding_sharding_dim = 0;
  bool share_embedding_table = false;
  Mapping mapping;
  QuantizationConfig quantization;
  std::string kv_dtype;  // "": same as dtype

  RotaryScaling rotary_scaling;
  double rotary_base = 10000.0;
  double rotary_pct = 1.0;  // share of head_size that is rotated
  bool attn_bias = false;   // bias on q, k and v
  bool dense_bias = false;  // bias on the attention output
  bool mlp_bias = false;
  MoeConfig moe;
  // Attention window per layer; empty: full attention everywhere, 0: full attention in that layer.
  std::vector<int> attention_window_sizes;

  // Keys that only one family knows: name -> JSON text of the value ("\"qwen2\"", "true", "1.5").
  std::map<std::string, std::string> extra;
};

}  // namespace trireme
