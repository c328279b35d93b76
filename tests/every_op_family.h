// SPDX-License-Identifier: Apache-2.0
// A model family for tests whose network has an op of every kind that a kernel runs, so that a small
// engine of it reaches kernels that Llama-shaped models do not. Immutable.
#pragma once

#include "base/status.h"
#include "trireme/model_family.h"

namespace trireme {

class EveryOpFamily : public ModelFamily {
 public:
  std::vector<std::string> HfArchitectures() const override { return {"EveryOpForCausalLM"}; }
  bool Matches(const ModelConfig& config) const override {
    return config.architecture == "EveryOpForCausalLM";
  }

  StatusOr<ModelConfig> ConfigFromHf(const HfConfigView&) const override {
    ModelConfig config;
    config.architecture = "EveryOpForCausalLM";
    config.vocab_size = 160;
    config.hidden_size = 32;
    config.num_hidden_layers = 2;
    config.num_attention_heads = 2;
    config.num_key_value_heads = 1;
    config.head_size = 16;
    config.intermediate_size = 48;
    config.hidden_act = "gelu";
    config.max_position_embeddings = 2304;
    return config;
  }

  StatusOr<std::vector<TensorRule>> TensorRules(const ModelConfig&) const override {
    return Unimplemented("engines of this family hold synthetic weights");
  }

  StatusOr<Network> BuildNetwork(const ModelConfig& config) const override {
    Network net;
    Value x = net.Embedding({.name = "transformer.vocab_embedding",
                             .vocab_size = config.vocab_size,
                             .width = config.hidden_size,
                             .scale = 40.0});
    x = net.PositionEmbedding(x, "transformer.position_embedding", config.max_position_embeddings);
    for (int layer = 0; layer < config.num_hidden_layers; ++layer) x = Layer(config, layer, x, net);
    const Value logits = net.Linear(net.SelectLogitRows(net.RmsNorm(x, {.name = "ln_f"})),
                                    {.name = "lm_head", .out_features = config.vocab_size});
    net.SetLogits(net.SoftCap(logits, 0.5));
    TRIREME_RETURN_IF_ERROR(net.Validate());
    return net;
  }

 private:
  static Value Layer(const ModelConfig& config, int layer, Value x, Network& net) {
    const std::string prefix = "layers." + std::to_string(layer) + ".";
    const int qkv_width =
        (config.num_attention_heads + 2 * config.num_key_value_heads) * config.head_size;
    Value qkv = net.Linear(net.LayerNorm(x, {.name = prefix + "norm"}),
                           {.name = prefix + "qkv", .out_features = qkv_width, .bias = true});
    qkv = net.HeadRmsNorm(qkv, {.name = prefix + "q_norm",
                                .num_heads = config.num_attention_heads,
                                .head_dim = config.head_size});
    const Value context =
        net.Attention(qkv, {.name = prefix + "attention",
                            .layer = layer,
                            .num_heads = config.num_attention_heads,
                            .num_kv_heads = config.num_key_value_heads,
                            .head_dim = config.head_size,
                            .soft_cap = 20.0,
                            .alibi = true,
                            .rotary = {.kind = RotaryKind::kGptj,
                                       .dim = config.head_size / 2,
                                       .max_position_embeddings = config.max_position_embeddings}});
    const Value inner = net.Activation(
        net.Linear(context, {.name = prefix + "fc", .out_features = config.intermediate_size}),
        ActivationKind::kGelu);
    const Value out =
        net.Linear(inner, {.name = prefix + "proj", .out_features = config.hidden_size});
    const Value mixed = net.MixtureOfExperts(out, {.name = prefix + "experts",
                                                   .num_experts = 4,
                                                   .top_k = 2,
                                                   .intermediate_size = config.intermediate_size});
    return net.Add(net.Add(x, mixed),
                   net.Scale(net.Mul(out, net.RmsNorm(x, {.name = prefix + "scale"})), 3.0));
  }
};

}  // namespace trireme
