// SPDX-License-Identifier: Apache-2.0
#include "models/decoder.h"

#include <algorithm>

#include "base/status.h"

namespace trireme::models {
namespace {

// Far above any published model, far below what would fill memory before a tensor is read.
constexpr int kMaxLayers = 4096;

StatusOr<int> RequiredSize(const HfConfigView& hf, HfConfigView::Keys keys) {
  TRIREME_ASSIGN_OR_RETURN(const std::optional<int64_t> value, hf.Int(keys));
  if (!value) return InvalidArgument("config.json has no '{}'", *keys.begin());
  if (*value <= 0 || *value > (int64_t{1} << 30)) {
    return InvalidArgument("config.json: '{}' is {}, which is not a size", *keys.begin(), *value);
  }
  return static_cast<int>(*value);
}

StatusOr<int> OptionalSize(const HfConfigView& hf, HfConfigView::Keys keys, int fallback) {
  TRIREME_ASSIGN_OR_RETURN(const std::optional<int64_t> value, hf.Int(keys));
  if (!value) return fallback;
  return RequiredSize(hf, keys);
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

StatusOr<ModelConfig> CommonConfigFromHf(const HfConfigView& hf) {
  ModelConfig config;
  TRIREME_ASSIGN_OR_RETURN(config.vocab_size, RequiredSize(hf, {"vocab_size"}));
  TRIREME_ASSIGN_OR_RETURN(config.hidden_size, RequiredSize(hf, {"hidden_size", "n_embd"}));
  TRIREME_ASSIGN_OR_RETURN(config.num_hidden_layers,
                           RequiredSize(hf, {"num_hidden_layers", "n_layer", "num_layers"}));
  TRIREME_ASSIGN_OR_RETURN(config.num_attention_heads,
                           RequiredSize(hf, {"num_attention_heads", "n_head"}));
  TRIREME_ASSIGN_OR_RETURN(config.num_key_value_heads,
                           OptionalSize(hf, {"num_key_value_heads"}, config.num_attention_heads));
  const int even_share = config.hidden_size / config.num_attention_heads;
  TRIREME_ASSIGN_OR_RETURN(const std::optional<int64_t> head_dim, hf.Int({"head_dim"}));
  if (!head_dim && config.hidden_size % config.num_attention_heads != 0) {
    return InvalidArgument("config.json: hidden_size {} is not a multiple of {} attention heads",
                           config.hidden_size, config.num_attention_heads);
  }
  TRIREME_ASSIGN_OR_RETURN(config.head_size, OptionalSize(hf, {"head_dim"}, even_share));
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
  std::vector<TensorRule> rules;
  rules.push_back({.name = "transformer.vocab_embedding.weight",
                   .sources = {"model.embed_tokens.weight"},
                   .split = TensorSplit::kEmbedding});
  for (int layer = 0; layer < config.num_hidden_layers; ++layer) {
    const std::string to = LayerPrefix(layer);
    const std::string from = fmt::format("model.layers.{}.", layer);
    const auto add = [&](std::string name, std::vector<std::string> sources, TensorSplit split,
                         bool quantizable) {
      for (std::string& source : sources) source = from + source;
      rules.push_back({.name = to + name,
                       .sources = std::move(sources),
                       .split = split,
                       .quantizable = quantizable,
                       .layer = layer});
    };
    add("input_layernorm.weight", {"input_layernorm.weight"}, TensorSplit::kNone, false);
    add("attention.qkv.weight",
        {"self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight"},
        TensorSplit::kQkvRows, true);
    if (config.attn_bias) {
      add("attention.qkv.bias",
          {"self_attn.q_proj.bias", "self_attn.k_proj.bias", "self_attn.v_proj.bias"},
          TensorSplit::kQkvRows, false);
    }
    add("attention.dense.weight", {"self_attn.o_proj.weight"}, TensorSplit::kColumns, true);
    if (config.dense_bias) {
      add("attention.dense.bias", {"self_attn.o_proj.bias"}, TensorSplit::kNone, false);
    }
    add("post_layernorm.weight", {"post_attention_layernorm.weight"}, TensorSplit::kNone, false);
    // The format crosses the names: fc is the activated branch, gate the plain one.
    add("mlp.fc.weight", {"mlp.gate_proj.weight"}, TensorSplit::kRows, true);
    add("mlp.gate.weight", {"mlp.up_proj.weight"}, TensorSplit::kRows, true);
    add("mlp.proj.weight", {"mlp.down_proj.weight"}, TensorSplit::kColumns, true);
    if (config.mlp_bias) {
      add("mlp.fc.bias", {"mlp.gate_proj.bias"}, TensorSplit::kRows, false);
      add("mlp.gate.bias", {"mlp.up_proj.bias"}, TensorSplit::kRows, false);
      add("mlp.proj.bias", {"mlp.down_proj.bias"}, TensorSplit::kNone, false);
    }
  }
  rules.push_back({.name = "transformer.ln_f.weight", .sources = {"model.norm.weight"}});
  rules.push_back({.name = "lm_head.weight",
                   .sources = {"lm_head.weight"},
                   .fallback_sources = {"model.embed_tokens.weight"},
                   .split = TensorSplit::kVocabRows,
                   .quantizable = true});
  return rules;
}

StatusOr<Network> LlamaShapedNetwork(const ModelConfig& config) {
  TRIREME_ASSIGN_OR_RETURN(const RankShape shape, ShapeOfRank(config));
  if (config.mapping.pp_size > 1) {
    return Unimplemented(
        "engines of pp_size {} are not built yet; convert writes their checkpoints",
        config.mapping.pp_size);
  }
  TRIREME_ASSIGN_OR_RETURN(const ActivationKind act, ParseActivation(config.hidden_act));
  const bool parallel = config.mapping.tp_size > 1;
  if (parallel && config.use_parallel_embedding) {
    return Unimplemented("engines with a parallel embedding are not built yet");
  }
  Network net;
  const auto row_parallel = [&](Value x) { return parallel ? net.AllReduce(x) : x; };
  const auto norm = [&](Value x, std::string name) {
    return net.RmsNorm(x, {.name = std::move(name), .epsilon = config.norm_epsilon});
  };

  Value hidden = net.Embedding({.name = "transformer.vocab_embedding",
                                .vocab_size = shape.embedding_vocab,
                                .width = shape.embedding_width});
  for (int layer = 0; layer < shape.num_layers; ++layer) {
    const std::string prefix = LayerPrefix(layer);
    const int64_t qkv_width = int64_t{shape.num_heads + 2 * shape.num_kv_heads} * config.head_size;
    const Value qkv = net.Linear(
        norm(hidden, prefix + "input_layernorm"),
        {.name = prefix + "attention.qkv", .out_features = qkv_width, .bias = config.attn_bias});
    const size_t index = static_cast<size_t>(shape.first_layer + layer);
    const Value context = net.Attention(
        qkv, {.name = prefix + "attention",
              .layer = layer,
              .num_heads = shape.num_heads,
              .num_kv_heads = shape.num_kv_heads,
              .head_dim = config.head_size,
              .window = index < config.attention_window_sizes.size()
                            ? config.attention_window_sizes[index]
                            : 0,
              .rotary = {.kind = RotaryKind::kNeox,
                         .dim = static_cast<int>(config.head_size * config.rotary_pct),
                         .base = config.rotary_base,
                         .scaling = config.rotary_scaling,
                         .max_position_embeddings = config.max_position_embeddings}});
    hidden = net.Add(hidden, row_parallel(net.Linear(context, {.name = prefix + "attention.dense",
                                                               .out_features = config.hidden_size,
                                                               .bias = config.dense_bias})));
    const Value x = norm(hidden, prefix + "post_layernorm");
    const Value activated = net.Linear(x, {.name = prefix + "mlp.fc",
                                           .out_features = shape.intermediate_size,
                                           .bias = config.mlp_bias});
    const Value plain = net.Linear(x, {.name = prefix + "mlp.gate",
                                       .out_features = shape.intermediate_size,
                                       .bias = config.mlp_bias});
    const Value mlp = net.Linear(
        net.GatedActivation(activated, plain, act),
        {.name = prefix + "mlp.proj", .out_features = config.hidden_size, .bias = config.mlp_bias});
    hidden = net.Add(hidden, row_parallel(mlp));
  }
  const Value last = norm(net.SelectLogitRows(hidden), "transformer.ln_f");
  net.SetLogits(net.Linear(last, {.name = "lm_head", .out_features = shape.vocab_size}));
  TRIREME_RETURN_IF_ERROR(net.Validate());
  return net;
}

}  // namespace trireme::models
