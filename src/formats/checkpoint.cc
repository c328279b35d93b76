// SPDX-License-Identifier: Apache-2.0
#include "formats/checkpoint.h"

#include <climits>
#include <cmath>
#include <filesystem>
#include <set>
#include <utility>

#include "base/mapped_file.h"
#include "formats/json_text.h"
#include "formats/rope_json.h"
#include "tensor/dtype.h"

namespace trireme {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr uint64_t kMaxConfigBytes = 16 << 20;
constexpr int kMaxLayers = 100'000;

// Reads members of one object and remembers which were known; the first wrong one is the status.
class Reader {
 public:
  Reader(const json& object, std::string path) : object_(object), path_(std::move(path)) {}

  const json* Find(const char* key) {
    known_.insert(key);
    const auto it = object_.find(key);
    return it == object_.end() || it->is_null() ? nullptr : &*it;
  }

  void Int(const char* key, int* target, int min, int max = INT_MAX) {
    const json* value = Find(key);
    if (value == nullptr) return;
    if (!value->is_number_integer()) return Wrong(key, *value, "an integer");
    const bool huge = value->is_number_unsigned() && value->get<uint64_t>() > uint64_t{INT_MAX};
    const int64_t number = huge ? INT64_MAX : value->get<int64_t>();
    if (number < min || number > max) {
      return Fail(InvalidArgument("'{}{}' must be in [{}, {}]", path_, key, min, max));
    }
    *target = static_cast<int>(number);
  }

  void Double(const char* key, double* target) {
    const json* value = Find(key);
    if (value == nullptr) return;
    if (!value->is_number()) return Wrong(key, *value, "a number");
    *target = value->get<double>();
    if (!std::isfinite(*target)) Fail(InvalidArgument("'{}{}' is not finite", path_, key));
  }

  void Bool(const char* key, bool* target) {
    const json* value = Find(key);
    if (value == nullptr) return;
    if (!value->is_boolean()) return Wrong(key, *value, "a boolean");
    *target = value->get<bool>();
  }

  void String(const char* key, std::string* target) {
    const json* value = Find(key);
    if (value == nullptr) return;
    if (!value->is_string()) return Wrong(key, *value, "a string");
    *target = value->get<std::string>();
  }

  void Strings(const char* key, std::vector<std::string>* target) {
    const json* value = Find(key);
    if (value == nullptr) return;
    if (!value->is_array()) return Wrong(key, *value, "an array of strings");
    target->clear();
    for (const json& item : *value) {
      if (!item.is_string()) return Wrong(key, item, "an array of strings");
      target->push_back(item.get<std::string>());
    }
  }

  void Ints(const char* key, std::vector<int>* target) {
    const json* value = Find(key);
    if (value == nullptr) return;
    if (!value->is_array()) return Wrong(key, *value, "an array of integers");
    target->clear();
    for (const json& item : *value) {
      if (!item.is_number_integer() || item.get<int64_t>() < 0 || item.get<int64_t>() > INT_MAX) {
        return Wrong(key, item, "an array of counts");
      }
      target->push_back(item.get<int>());
    }
  }

  // A reader of the nested object, or nothing.
  std::optional<Reader> Object(const char* key) {
    const json* value = Find(key);
    if (value == nullptr) return std::nullopt;
    if (!value->is_object()) {
      Wrong(key, *value, "an object");
      return std::nullopt;
    }
    return Reader(*value, path_ + key + ".");
  }

  void Require(bool present, const char* key) {
    if (!present) Fail(InvalidArgument("the key '{}{}' is missing", path_, key));
  }

  void Fail(Status status) {
    if (status_.ok()) status_ = std::move(status);
  }

  // Members that no call above asked for.
  std::map<std::string, std::string> Rest() const {
    std::map<std::string, std::string> rest;
    for (const auto& [key, value] : object_.items()) {
      if (!known_.contains(key)) rest.emplace(key, value.dump());
    }
    return rest;
  }

  const Status& status() const { return status_; }

 private:
  void Wrong(const char* key, const json& value, std::string_view wanted) {
    Fail(InvalidArgument("'{}{}' is {}, not {}", path_, key, JsonTypeName(value), wanted));
  }

  const json& object_;
  const std::string path_;  // "" or "mapping."
  std::set<std::string, std::less<>> known_;
  Status status_;
};

void ReadSizes(Reader& reader, ModelConfig& config) {
  reader.Int("vocab_size", &config.vocab_size, 1);
  reader.Int("max_position_embeddings", &config.max_position_embeddings, 0);
  reader.Int("hidden_size", &config.hidden_size, 1);
  reader.Int("num_hidden_layers", &config.num_hidden_layers, 1, kMaxLayers);
  reader.Int("num_attention_heads", &config.num_attention_heads, 1);
  reader.Require(config.vocab_size > 0, "vocab_size");
  reader.Require(config.hidden_size > 0, "hidden_size");
  reader.Require(config.num_hidden_layers > 0, "num_hidden_layers");
  reader.Require(config.num_attention_heads > 0, "num_attention_heads");
  if (!reader.status().ok()) return;
  config.num_key_value_heads = config.num_attention_heads;
  config.head_size = config.hidden_size / config.num_attention_heads;
  reader.Int("num_key_value_heads", &config.num_key_value_heads, 1);
  reader.Int("head_size", &config.head_size, 1);
  reader.Require(config.head_size > 0, "head_size");
  reader.Int("intermediate_size", &config.intermediate_size, 1);
  if (config.intermediate_size == 0 && config.hidden_size <= INT_MAX / 4) {
    config.intermediate_size = 4 * config.hidden_size;
  }
}

void ReadMapping(Reader& reader, Mapping& mapping) {
  std::optional<Reader> object = reader.Object("mapping");
  if (!object) return;
  constexpr int kMaxWays = 1 << 15;
  object->Int("tp_size", &mapping.tp_size, 1, kMaxWays);
  object->Int("pp_size", &mapping.pp_size, 1, kMaxWays);
  object->Int("gpus_per_node", &mapping.gpus_per_node, 1);
  mapping.world_size = mapping.tp_size * mapping.pp_size;
  object->Int("world_size", &mapping.world_size, 1);
  if (mapping.world_size != mapping.tp_size * mapping.pp_size) {
    object->Fail(InvalidArgument("'mapping.world_size' is {}, but tp_size {} x pp_size {} is {}",
                                 mapping.world_size, mapping.tp_size, mapping.pp_size,
                                 mapping.tp_size * mapping.pp_size));
  }
  if (!object->status().ok()) reader.Fail(object->status());
}

void ReadQuantization(Reader& reader, QuantizationConfig& quantization) {
  std::optional<Reader> object = reader.Object("quantization");
  if (!object) return;
  object->String("quant_algo", &quantization.quant_algo);
  object->String("kv_cache_quant_algo", &quantization.kv_cache_quant_algo);
  object->Int("group_size", &quantization.group_size, 1);
  if (object->Find("smoothquant_val") != nullptr) {
    object->Double("smoothquant_val", &quantization.smoothquant_val.emplace(0.5));
  }
  object->Bool("has_zero_point", &quantization.has_zero_point);
  object->Bool("pre_quant_scale", &quantization.pre_quant_scale);
  object->Strings("exclude_modules", &quantization.exclude_modules);
  if (!object->status().ok()) reader.Fail(object->status());
}

// Newer checkpoints nest these values under `moe`; older ones prefix them with `moe_`.
void ReadMoe(Reader& reader, MoeConfig& moe) {
  reader.Int("moe_num_experts", &moe.num_experts, 0);
  reader.Int("moe_top_k", &moe.top_k, 0);
  reader.Int("moe_tp_mode", &moe.tp_mode, 0, 2);
  reader.Int("moe_normalization_mode", &moe.normalization_mode, 0, 2);
  std::optional<Reader> object = reader.Object("moe");
  if (!object) return;
  object->Int("num_experts", &moe.num_experts, 0);
  object->Int("top_k", &moe.top_k, 0);
  object->Int("tp_mode", &moe.tp_mode, 0, 2);
  object->Int("normalization_mode", &moe.normalization_mode, 0, 2);
  if (moe.top_k > moe.num_experts) {
    object->Fail(
        InvalidArgument("'moe.top_k' {} exceeds 'moe.num_experts' {}", moe.top_k, moe.num_experts));
  }
  if (!object->status().ok()) reader.Fail(object->status());
}

// The reference writes no attn_bias for Qwen 1, 1.5 and 2, whose q, k and v always have one.
bool ImpliedAttnBias(const ModelConfig& config) {
  const auto type = config.extra.find("qwen_type");
  return config.architecture == "QWenForCausalLM" &&
         (type == config.extra.end() || type->second == "\"qwen\"" || type->second == "\"qwen2\"");
}

void ReadFlags(Reader& reader, ModelConfig& config) {
  reader.Bool("qk_layernorm", &config.qk_layernorm);
  reader.Bool("use_parallel_embedding", &config.use_parallel_embedding);
  reader.Int("embedding_sharding_dim", &config.embedding_sharding_dim, 0, 1);
  reader.Bool("share_embedding_table", &config.share_embedding_table);
  if (const json* type = reader.Find("qwen_type")) config.extra["qwen_type"] = type->dump();
  config.attn_bias = ImpliedAttnBias(config);
  reader.Bool("attn_bias", &config.attn_bias);
  reader.Bool("dense_bias", &config.dense_bias);
  reader.Bool("mlp_bias", &config.mlp_bias);
}

StatusOr<ModelConfig> FromObject(const json& root) {
  ModelConfig config;
  Reader reader(root, "");
  reader.String("architecture", &config.architecture);
  if (config.architecture.empty() && root.contains("architectures")) {
    return InvalidArgument(
        "this is a Hugging Face configuration, not a checkpoint's; convert the "
        "model first: trireme convert --model_dir DIR --output_dir CKPT");
  }
  reader.Require(!config.architecture.empty(), "architecture");
  config.dtype.clear();
  reader.String("dtype", &config.dtype);
  reader.Require(!config.dtype.empty(), "dtype");
  reader.String("logits_dtype", &config.logits_dtype);
  ReadSizes(reader, config);
  reader.String("hidden_act", &config.hidden_act);
  reader.Double("norm_epsilon", &config.norm_epsilon);
  config.position_embedding_type = "learned_absolute";
  reader.String("position_embedding_type", &config.position_embedding_type);
  ReadFlags(reader, config);
  ReadMapping(reader, config.mapping);
  ReadQuantization(reader, config.quantization);
  reader.String("kv_dtype", &config.kv_dtype);
  reader.Double("rotary_base", &config.rotary_base);
  reader.Double("rotary_pct", &config.rotary_pct);
  ReadMoe(reader, config.moe);
  reader.Ints("attention_window_sizes", &config.attention_window_sizes);
  if (const json* scaling = reader.Find("rotary_scaling")) {
    RopeDefaults defaults;
    defaults.max_position_embeddings = config.max_position_embeddings;
    TRIREME_ASSIGN_OR_RETURN(config.rotary_scaling,
                             ParseRotaryScaling(*scaling, "'rotary_scaling'", defaults));
  }
  TRIREME_RETURN_IF_ERROR(reader.status());
  for (auto& [key, value] : reader.Rest()) config.extra.emplace(key, value);
  for (const std::string* name : {&config.dtype, &config.logits_dtype, &config.kv_dtype}) {
    if (!name->empty()) TRIREME_RETURN_IF_ERROR(ParseDType(*name).status());
  }
  return config;
}

ordered_json StringOrNull(const std::string& text) {
  return text.empty() ? ordered_json(nullptr) : ordered_json(text);
}

ordered_json IntOrNull(int value) {
  return value == 0 ? ordered_json(nullptr) : ordered_json(value);
}

ordered_json QuantizationJson(const QuantizationConfig& quantization) {
  return {
      {"quant_algo", StringOrNull(quantization.quant_algo)},
      {"kv_cache_quant_algo", StringOrNull(quantization.kv_cache_quant_algo)},
      {"group_size", quantization.group_size},
      {"smoothquant_val", quantization.smoothquant_val ? ordered_json(*quantization.smoothquant_val)
                                                       : ordered_json(nullptr)},
      {"has_zero_point", quantization.has_zero_point},
      {"pre_quant_scale", quantization.pre_quant_scale},
      {"exclude_modules", quantization.exclude_modules}};
}

// The keys that follow the common ones. Ours are written only when they say something, so that a
// plain Qwen2 configuration is key for key what the reference writes.
void AppendExtras(const ModelConfig& config, ordered_json& root) {
  auto append_text = [&](const std::string& key, const std::string& text) {
    ordered_json value = ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!value.is_discarded() && !root.contains(key)) root[key] = std::move(value);
  };
  if (const auto it = config.extra.find("qwen_type"); it != config.extra.end()) {
    append_text(it->first, it->second);
  }
  for (const auto& [key, text] : config.extra) append_text(key, text);
  // The reference asks its plugins by this key; every kernel here reads the weights in place.
  if (config.architecture == "QWenForCausalLM")
    append_text("disable_weight_only_quant_plugin", "false");
  if (config.attn_bias != ImpliedAttnBias(config)) root["attn_bias"] = config.attn_bias;
  if (config.dense_bias) root["dense_bias"] = true;
  if (config.mlp_bias) root["mlp_bias"] = true;
  if (config.rotary_pct != 1.0) root["rotary_pct"] = config.rotary_pct;
  if (config.moe.num_experts > 0) {
    root["moe"] = {{"num_experts", config.moe.num_experts},
                   {"top_k", config.moe.top_k},
                   {"tp_mode", config.moe.tp_mode},
                   {"normalization_mode", config.moe.normalization_mode}};
  }
  if (!config.attention_window_sizes.empty()) {
    root["attention_window_sizes"] = config.attention_window_sizes;
  }
}

}  // namespace

StatusOr<ModelConfig> ParseCheckpointConfig(std::string_view text) {
  TRIREME_ASSIGN_OR_RETURN(const json root, ParseJson(text, "checkpoint configuration"));
  if (!root.is_object()) return InvalidArgument("checkpoint configuration is not a JSON object");
  return FromObject(root);
}

StatusOr<ModelConfig> LoadCheckpointConfig(const std::string& dir_or_file) {
  std::error_code ignored;
  const bool is_dir = std::filesystem::is_directory(dir_or_file, ignored);
  const std::string path = is_dir ? dir_or_file + "/config.json" : dir_or_file;
  TRIREME_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxConfigBytes));
  StatusOr<ModelConfig> config = ParseCheckpointConfig(text);
  if (!config.ok()) return config.status().WithContext("'" + path + "'");
  return config;
}

std::string CheckpointConfigJson(const ModelConfig& config) {
  ordered_json root;
  root["architecture"] = config.architecture;
  root["dtype"] = config.dtype;
  root["logits_dtype"] = config.logits_dtype;
  root["vocab_size"] = config.vocab_size;
  root["max_position_embeddings"] = IntOrNull(config.max_position_embeddings);
  root["hidden_size"] = config.hidden_size;
  root["num_hidden_layers"] = config.num_hidden_layers;
  root["num_attention_heads"] = config.num_attention_heads;
  root["num_key_value_heads"] = config.num_key_value_heads;
  root["head_size"] = config.head_size;
  root["qk_layernorm"] = config.qk_layernorm;
  root["hidden_act"] = config.hidden_act;
  root["intermediate_size"] = IntOrNull(config.intermediate_size);
  root["norm_epsilon"] = config.norm_epsilon;
  root["position_embedding_type"] = config.position_embedding_type;
  root["use_parallel_embedding"] = config.use_parallel_embedding;
  root["embedding_sharding_dim"] = config.embedding_sharding_dim;
  root["share_embedding_table"] = config.share_embedding_table;
  root["mapping"] = {{"world_size", config.mapping.world_size},
                     {"tp_size", config.mapping.tp_size},
                     {"pp_size", config.mapping.pp_size},
                     {"gpus_per_node", config.mapping.gpus_per_node}};
  root["quantization"] = QuantizationJson(config.quantization);
  root["kv_dtype"] = config.kv_dtype.empty() ? config.dtype : config.kv_dtype;
  root["rotary_scaling"] = RotaryScalingJson(config.rotary_scaling);
  root["rotary_base"] = config.rotary_base;
  AppendExtras(config, root);
  return root.dump(4, ' ', false, json::error_handler_t::replace) + "\n";
}

std::string RankFile(const std::string& dir, int rank) {
  return (std::filesystem::path(dir) / fmt::format("rank{}.safetensors", rank)).string();
}

}  // namespace trireme
