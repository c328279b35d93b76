// SPDX-License-Identifier: Apache-2.0
#include "models/decoder_builder.h"

#include <cmath>

#include "base/status.h"

namespace trireme::models {

StatusOr<DecoderBuilder> DecoderBuilder::Create(const ModelConfig& config) {
  TRIREME_ASSIGN_OR_RETURN(const RankShape shape, ShapeOfRank(config));
  if (config.mapping.pp_size > 1) {
    return Unimplemented(
        "engines of pp_size {} are not built yet; convert writes their checkpoints",
        config.mapping.pp_size);
  }
  if (config.mapping.tp_size > 1 && config.use_parallel_embedding) {
    return Unimplemented("engines with a parallel embedding are not built yet");
  }
  TRIREME_ASSIGN_OR_RETURN(const ActivationKind activation, ParseActivation(config.hidden_act));
  return DecoderBuilder(config, shape, activation);
}

Value DecoderBuilder::Embedding(double scale) {
  return net_.Embedding({.name = "transformer.vocab_embedding",
                         .vocab_size = shape_.embedding_vocab,
                         .width = shape_.embedding_width,
                         .scale = scale});
}

Value DecoderBuilder::RmsNorm(Value x, const std::string& name, bool gamma_offset) {
  return net_.RmsNorm(
      x, {.name = name, .epsilon = config_.norm_epsilon, .gamma_offset = gamma_offset});
}

Value DecoderBuilder::LayerNorm(Value x, const std::string& name) {
  return net_.LayerNorm(x, {.name = name, .epsilon = config_.norm_epsilon});
}

Value DecoderBuilder::RowParallel(Value x, const std::string& name, bool bias) {
  // The ranks' results are summed, so one of them adds the bias.
  const Mapping& mapping = config_.mapping;
  const Value y = net_.Linear(
      x,
      {.name = name, .out_features = config_.hidden_size, .bias = bias && mapping.tp_rank() == 0});
  return mapping.tp_size > 1 ? net_.AllReduce(y) : y;
}

RotarySpec DecoderBuilder::Rotary() const {
  const std::string& type = config_.position_embedding_type;
  if (type != "rope_gpt_neox" && type != "rope_gptj") return {};
  return {.kind = type == "rope_gptj" ? RotaryKind::kGptj : RotaryKind::kNeox,
          .dim = static_cast<int>(std::lround(config_.head_size * config_.rotary_pct)),
          .base = config_.rotary_base,
          .scaling = config_.rotary_scaling,
          .max_position_embeddings = config_.max_position_embeddings};
}

Value DecoderBuilder::Attention(Value x, int layer, const AttentionOptions& options) {
  const std::string prefix = LayerPrefix(layer) + "attention";
  const int num_heads = shape_.num_heads;
  const int num_kv_heads = shape_.num_kv_heads;
  Value qkv =
      net_.Linear(x, {.name = prefix + ".qkv",
                      .out_features = int64_t{num_heads + 2 * num_kv_heads} * config_.head_size,
                      .bias = config_.attn_bias});
  if (config_.qk_layernorm) {
    qkv = net_.HeadRmsNorm(qkv, {.name = prefix + ".q_layernorm",
                                 .epsilon = config_.norm_epsilon,
                                 .first_head = 0,
                                 .num_heads = num_heads,
                                 .head_dim = config_.head_size});
    qkv = net_.HeadRmsNorm(qkv, {.name = prefix + ".k_layernorm",
                                 .epsilon = config_.norm_epsilon,
                                 .first_head = num_heads,
                                 .num_heads = num_kv_heads,
                                 .head_dim = config_.head_size});
  }
  const size_t index = static_cast<size_t>(shape_.first_layer + layer);
  const std::vector<int>& windows = config_.attention_window_sizes;
  const Value context = net_.Attention(qkv, {.name = prefix,
                                             .layer = layer,
                                             .num_heads = num_heads,
                                             .num_kv_heads = num_kv_heads,
                                             .head_dim = config_.head_size,
                                             .scale = options.scale,
                                             .window = index < windows.size() ? windows[index] : 0,
                                             .soft_cap = options.soft_cap,
                                             .alibi = config_.position_embedding_type == "alibi",
                                             .rotary = Rotary()});
  return RowParallel(context, prefix + ".dense", config_.dense_bias);
}

Value DecoderBuilder::GatedMlp(Value x, int layer) {
  // The format crosses the names: fc is the activated branch, gate the plain one.
  const std::string prefix = LayerPrefix(layer) + "mlp";
  const auto branch = [&](const char* name) {
    return net_.Linear(x, {.name = prefix + name,
                           .out_features = shape_.intermediate_size,
                           .bias = config_.mlp_bias});
  };
  const Value activated = branch(".fc");
  const Value plain = branch(".gate");
  return RowParallel(net_.GatedActivation(activated, plain, activation_), prefix + ".proj",
                     config_.mlp_bias);
}

Value DecoderBuilder::MixtureOfExperts(Value x, int layer) {
  const Value y = net_.MixtureOfExperts(x, {.name = LayerPrefix(layer) + "mlp",
                                            .num_experts = config_.moe.num_experts,
                                            .top_k = config_.moe.top_k,
                                            .intermediate_size = shape_.intermediate_size,
                                            .activation = activation_,
                                            .normalize = config_.moe.normalization_mode == 1});
  return config_.mapping.tp_size > 1 ? net_.AllReduce(y) : y;
}

Value DecoderBuilder::Mlp(Value x, int layer) {
  const std::string prefix = LayerPrefix(layer) + "mlp";
  const Value inner = net_.Linear(
      x,
      {.name = prefix + ".fc", .out_features = shape_.intermediate_size, .bias = config_.mlp_bias});
  return RowParallel(net_.Activation(inner, activation_), prefix + ".proj", config_.mlp_bias);
}

StatusOr<Network> DecoderBuilder::FinishLayerNormLayers(Value x) {
  for (int layer = 0; layer < num_layers(); ++layer) {
    const std::string prefix = LayerPrefix(layer);
    x = net_.Add(x, Attention(LayerNorm(x, prefix + "input_layernorm"), layer));
    x = net_.Add(x, Mlp(LayerNorm(x, prefix + "post_layernorm"), layer));
  }
  return Finish(LayerNorm(net_.SelectLogitRows(x), "transformer.ln_f"));
}

StatusOr<Network> DecoderBuilder::Finish(Value x, const HeadOptions& options) {
  Value logits =
      net_.Linear(x, {.name = "lm_head", .out_features = shape_.vocab_size, .bias = options.bias});
  if (options.soft_cap > 0) logits = net_.SoftCap(logits, options.soft_cap);
  net_.SetLogits(logits);
  TRIREME_RETURN_IF_ERROR(net_.Validate());
  return std::move(net_);
}

}  // namespace trireme::models
