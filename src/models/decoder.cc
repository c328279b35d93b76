// SPDX-License-Identifier: Apache-2.0
#include "models/decoder.h"

#include <algorithm>
#include <charconv>

#include "base/status.h"
#include "models/decoder_builder.h"

namespace trireme::models {
namespace {

// Far above any published model, far below what would fill memory before a tensor is read.
constexpr int kMaxLayers = 4096;
constexpr int kMaxExperts = 4096;

StatusOr<int> RequiredSize(const HfConfigView& hf, HfConfigView::Keys keys) {
  TRIREME_ASSIGN_OR_RETURN(const std::optional<int64_t> value, hf.Int(keys));
  if (!value) return InvalidArgument("config.json has no '{}'", *keys.begin());
  if (*value <= 0 || *value > (int64_t{1} << 30)) {
    return InvalidArgument("config.json: '{}' is {}, which is not a size", *keys.begin(), *value);
  }
  return static_cast<int>(*value);
}

Status CheckHeads(const ModelConfig& config) {
  if (config.num_attention_heads % config.num_key_value_heads != 0) {
    return InvalidArgument("config.json: {} attention heads are not a multiple of {} KV heads",
                           config.num_attention_heads, config.num_key_value_heads);
  }
  if (config.head_size % 2 != 0) {
    return InvalidArgument("config.json: head size {} is odd", config.head_size);
  }
  return OkStatus();
}

}  // namespace

StatusOr<ModelConfig> BiasedTiedConfigFromHf(const HfConfigView& hf) {
  TRIREME_ASSIGN_OR_RETURN(ModelConfig config, CommonConfigFromHf(hf));
  TRIREME_ASSIGN_OR_RETURN(const std::optional<bool> tied, hf.Bool({"tie_word_embeddings"}));
  config.share_embedding_table = tied.value_or(true);
  config.attn_bias = config.dense_bias = config.mlp_bias = true;
  return config;
}

StatusOr<int> OptionalSize(const HfConfigView& hf, HfConfigView::Keys keys, int fallback) {
  TRIREME_ASSIGN_OR_RETURN(const std::optional<int64_t> value, hf.Int(keys));
  if (!value) return fallback;
  return RequiredSize(hf, keys);
}

StatusOr<ModelConfig> CommonConfigFromHf(const HfConfigView& hf) {
  ModelConfig config;
  TRIREME_ASSIGN_OR_RETURN(config.vocab_size,
                           RequiredSize(hf, {"padded_vocab_size", "vocab_size"}));
  TRIREME_ASSIGN_OR_RETURN(config.hidden_size,
                           RequiredSize(hf, {"hidden_size", "n_embd", "n_embed"}));
  TRIREME_ASSIGN_OR_RETURN(config.num_hidden_layers,
                           RequiredSize(hf, {"num_hidden_layers", "n_layer", "num_layers"}));
  TRIREME_ASSIGN_OR_RETURN(config.num_attention_heads,
                           RequiredSize(hf, {"num_attention_heads", "n_head"}));
  TRIREME_ASSIGN_OR_RETURN(config.num_key_value_heads,
                           OptionalSize(hf, {"num_key_value_heads"}, config.num_attention_heads));
  const int even_share = config.hidden_size / config.num_attention_heads;
  TRIREME_ASSIGN_OR_RETURN(const std::optional<int64_t> head_dim,
                           hf.Int({"head_dim", "kv_channels"}));
  if (!head_dim && config.hidden_size % config.num_attention_heads != 0) {
    return InvalidArgument("config.json: hidden_size {} is not a multiple of {} attention heads",
                           config.hidden_size, config.num_attention_heads);
  }
  TRIREME_ASSIGN_OR_RETURN(config.head_size,
                           OptionalSize(hf, {"head_dim", "kv_channels"}, even_share));
  TRIREME_ASSIGN_OR_RETURN(config.intermediate_size,
                           OptionalSize(hf, {"intermediate_size", "n_inner", "ffn_hidden_size"},
                                        4 * config.hidden_size));
  TRIREME_ASSIGN_OR_RETURN(
      config.max_position_embeddings,
      OptionalSize(hf, {"max_position_embeddings", "n_positions", "seq_length"}, 2048));
  TRIREME_ASSIGN_OR_RETURN(const std::optional<std::string> act,
                           hf.String({"hidden_act", "hidden_activation", "activation_function"}));
  config.hidden_act = act.value_or("silu");
  TRIREME_RETURN_IF_ERROR(ParseActivation(config.hidden_act).status());
  TRIREME_ASSIGN_OR_RETURN(
      const std::optional<double> epsilon,
      hf.Double({"rms_norm_eps", "layer_norm_epsilon", "layernorm_epsilon", "layer_norm_eps"}));
  config.norm_epsilon = epsilon.value_or(1e-6);
  if (!(config.norm_epsilon > 0)) {
    return InvalidArgument("config.json: the norm's epsilon is {}; it must be positive",
                           config.norm_epsilon);
  }
  if (config.num_hidden_layers > kMaxLayers) {
    return InvalidArgument("config.json: {} layers; at most {} are taken", config.num_hidden_layers,
                           kMaxLayers);
  }
  TRIREME_ASSIGN_OR_RETURN(const RopeParameters rope, hf.Rope());
  config.rotary_base = rope.theta.value_or(10000.0);
  config.rotary_pct = rope.partial_rotary_factor;
  config.rotary_scaling = rope.scaling;
  TRIREME_ASSIGN_OR_RETURN(const std::optional<bool> tied, hf.Bool({"tie_word_embeddings"}));
  config.share_embedding_table = tied.value_or(false);
  TRIREME_RETURN_IF_ERROR(CheckHeads(config));
  return config;
}

Status CheckWindow(int64_t window) {
  if (window > 0 && window <= (int64_t{1} << 30)) return OkStatus();
  return InvalidArgument("config.json: 'sliding_window' is {}, which is not a count of tokens",
                         window);
}

Status ReadUniformWindow(const HfConfigView& hf, ModelConfig& config) {
  TRIREME_ASSIGN_OR_RETURN(const std::optional<int64_t> window, hf.Int({"sliding_window"}));
  if (!window) return OkStatus();
  TRIREME_RETURN_IF_ERROR(CheckWindow(*window));
  config.attention_window_sizes.assign(static_cast<size_t>(config.num_hidden_layers),
                                       static_cast<int>(*window));
  return OkStatus();
}

Status ReadQwenWindows(const HfConfigView& hf, ModelConfig& config) {
  TRIREME_ASSIGN_OR_RETURN(const std::optional<bool> windowed, hf.Bool({"use_sliding_window"}));
  TRIREME_ASSIGN_OR_RETURN(const std::optional<int64_t> window, hf.Int({"sliding_window"}));
  if (!windowed.value_or(false) || !window) return OkStatus();
  TRIREME_RETURN_IF_ERROR(CheckWindow(*window));
  TRIREME_ASSIGN_OR_RETURN(const std::optional<int64_t> first, hf.Int({"max_window_layers"}));
  for (int layer = 0; layer < config.num_hidden_layers; ++layer) {
    const bool full = layer < first.value_or(config.num_hidden_layers);
    config.attention_window_sizes.push_back(full ? 0 : static_cast<int>(*window));
  }
  return OkStatus();
}

StatusOr<double> OwnNumber(const ModelConfig& config, const std::string& key, double fallback) {
  const auto found = config.extra.find(key);
  if (found == config.extra.end()) return fallback;
  const std::string& text = found->second;
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc() && end == text.data() + text.size() && value > 0) return value;
  return InvalidArgument("'{}' is {}, not a positive number", key, text);
}

StatusOr<RankShape> ShapeOfRank(const ModelConfig& config) {
  const Mapping& mapping = config.mapping;
  const int tp = mapping.tp_size;
  const int pp = mapping.pp_size;
  if (tp < 1 || pp < 1 || mapping.rank < 0 || mapping.rank >= tp * pp) {
    return InvalidArgument("rank {} does not exist with tp_size {} and pp_size {}", mapping.rank,
                           tp, pp);
  }
  if (config.num_attention_heads % tp != 0) {
    return InvalidArgument("{} attention heads cannot be shared out over tp_size {}",
                           config.num_attention_heads, tp);
  }
  if (config.num_key_value_heads % tp != 0 && tp % config.num_key_value_heads != 0) {
    return InvalidArgument(
        "{} KV heads can be neither shared out over nor replicated to tp_size {}",
        config.num_key_value_heads, tp);
  }
  if (config.intermediate_size % tp != 0) {
    return InvalidArgument("intermediate_size {} is not a multiple of tp_size {}",
                           config.intermediate_size, tp);
  }
  if (config.num_hidden_layers % pp != 0) {
    return InvalidArgument("{} layers are not a multiple of pp_size {}", config.num_hidden_layers,
                           pp);
  }
  RankShape shape;
  shape.num_heads = config.num_attention_heads / tp;
  shape.num_kv_heads = std::max(1, config.num_key_value_heads / tp);
  shape.intermediate_size = config.intermediate_size / tp;
  shape.vocab_size = (int64_t{config.vocab_size} + tp - 1) / tp;
  shape.embedding_vocab = config.vocab_size;
  shape.embedding_width = config.hidden_size;
  shape.num_layers = config.num_hidden_layers / pp;
  shape.first_layer = mapping.pp_rank() * shape.num_layers;
  if (config.use_parallel_embedding && tp > 1) {
    if (config.embedding_sharding_dim == 0) shape.embedding_vocab = shape.vocab_size;
    if (config.embedding_sharding_dim == 1) shape.embedding_width = config.hidden_size / tp;
  }
  return shape;
}

std::string LayerPrefix(int layer) { return fmt::format("transformer.layers.{}.", layer); }

std::vector<TensorRule> LlamaShapedRules(const ModelConfig& config) {
  RuleList rules;
  rules.Embedding("vocab_embedding", "model.embed_tokens");
  for (int layer = 0; layer < config.num_hidden_layers; ++layer) {
    rules.BeginLayer(layer, fmt::format("model.layers.{}.", layer));
    rules.Norm("input_layernorm", "input_layernorm");
    AddSeparateAttention(rules, config);
    rules.Norm("post_layernorm", "post_attention_layernorm");
    AddSeparateGatedMlp(rules, config);
  }
  rules.EndLayers();
  rules.Norm("ln_f", "model.norm");
  rules.Head("lm_head", "model.embed_tokens");
  return rules.Take();
}

void AddSeparateAttention(RuleList& rules, const ModelConfig& config) {
  rules.Linear("attention.qkv", {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"},
               TensorSplit::kQkvRows, {.bias = config.attn_bias});
  if (config.qk_layernorm) {
    rules.Norm("attention.q_layernorm", "self_attn.q_norm");
    rules.Norm("attention.k_layernorm", "self_attn.k_norm");
  }
  rules.Linear("attention.dense", {"self_attn.o_proj"}, TensorSplit::kColumns,
               {.bias = config.dense_bias});
}

void AddSeparateGatedMlp(RuleList& rules, const ModelConfig& config) {
  // The format crosses the names: fc is the activated branch, gate the plain one.
  const RuleOptions options{.bias = config.mlp_bias};
  rules.Linear("mlp.fc", {"mlp.gate_proj"}, TensorSplit::kRows, options);
  rules.Linear("mlp.gate", {"mlp.up_proj"}, TensorSplit::kRows, options);
  rules.Linear("mlp.proj", {"mlp.down_proj"}, TensorSplit::kColumns, options);
}

void AddFusedGatedMlp(RuleList& rules, const std::string& gate_up, const std::string& down,
                      bool bias) {
  rules.Linear("mlp.fc", {gate_up}, TensorSplit::kRows, {.bias = bias, .part = 0, .num_parts = 2});
  rules.Linear("mlp.gate", {gate_up}, TensorSplit::kRows,
               {.bias = bias, .part = 1, .num_parts = 2});
  rules.Linear("mlp.proj", {down}, TensorSplit::kColumns, {.bias = bias});
}

static void AddExperts(RuleList& rules, const ModelConfig& config, const ExpertNames& names) {
  rules.Router("mlp.router", names.router);
  std::vector<std::string> branches;
  std::vector<std::string> outputs;
  for (int expert = 0; expert < config.moe.num_experts; ++expert) {
    const std::string prefix = fmt::format("{}.{}.", names.experts, expert);
    branches.push_back(prefix + names.up);
    branches.push_back(prefix + names.gate);
    outputs.push_back(prefix + names.down);
  }
  rules.Experts("mlp.fc", branches, TensorSplit::kRows, config.moe.num_experts);
  rules.Experts("mlp.proj", outputs, TensorSplit::kColumns, config.moe.num_experts);
}

StatusOr<std::vector<TensorRule>> ExpertRules(const ModelConfig& config, const ExpertNames& names) {
  RuleList rules;
  rules.Embedding("vocab_embedding", "model.embed_tokens");
  for (int layer = 0; layer < config.num_hidden_layers; ++layer) {
    rules.BeginLayer(layer, fmt::format("model.layers.{}.", layer));
    rules.Norm("input_layernorm", "input_layernorm");
    AddSeparateAttention(rules, config);
    rules.Norm("post_layernorm", "post_attention_layernorm");
    AddExperts(rules, config, names);
  }
  rules.EndLayers();
  rules.Norm("ln_f", "model.norm");
  rules.Head("lm_head", "model.embed_tokens");
  return rules.Take();
}

StatusOr<MoeConfig> ReadMoe(const HfConfigView& hf, HfConfigView::Keys num_experts) {
  MoeConfig moe;
  TRIREME_ASSIGN_OR_RETURN(moe.num_experts, RequiredSize(hf, num_experts));
  TRIREME_ASSIGN_OR_RETURN(moe.top_k, RequiredSize(hf, {"num_experts_per_tok"}));
  if (moe.num_experts > kMaxExperts || moe.top_k > moe.num_experts) {
    return InvalidArgument("config.json: {} of {} experts per token; at most {} experts are taken",
                           moe.top_k, moe.num_experts, kMaxExperts);
  }
  return moe;
}

StatusOr<Network> LlamaShapedNetwork(const ModelConfig& config) {
  TRIREME_ASSIGN_OR_RETURN(DecoderBuilder build, DecoderBuilder::Create(config));
  Network& net = build.network();
  Value hidden = build.Embedding();
  for (int layer = 0; layer < build.num_layers(); ++layer) {
    const std::string prefix = LayerPrefix(layer);
    hidden =
        net.Add(hidden, build.Attention(build.RmsNorm(hidden, prefix + "input_layernorm"), layer));
    const Value x = build.RmsNorm(hidden, prefix + "post_layernorm");
    hidden = net.Add(hidden, config.moe.num_experts > 0 ? build.MixtureOfExperts(x, layer)
                                                        : build.GatedMlp(x, layer));
  }
  return build.Finish(build.RmsNorm(net.SelectLogitRows(hidden), "transformer.ln_f"));
}

}  // namespace trireme::models
