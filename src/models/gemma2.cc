// SPDX-License-Identifier: Apache-2.0
// Gemma 2: RMS norms before and after attention and MLP whose weights are offsets from one, a scaled
// embedding, soft caps on attention scores and logits, and windows on every other layer.
#include <cmath>

#include "base/status.h"
#include "models/builtin.h"
#include "models/decoder.h"
#include "models/decoder_builder.h"

namespace trireme::models {
namespace {

class Gemma2Family : public ModelFamily {
 public:
  std::vector<std::string> HfArchitectures() const override { return {"Gemma2ForCausalLM"}; }

  bool Matches(const ModelConfig& config) const override {
    return config.architecture == "Gemma2ForCausalLM";
  }

  StatusOr<ModelConfig> ConfigFromHf(const HfConfigView& hf) const override {
    TRIREME_ASSIGN_OR_RETURN(ModelConfig config, CommonConfigFromHf(hf));
    TRIREME_ASSIGN_OR_RETURN(const std::optional<bool> tied, hf.Bool({"tie_word_embeddings"}));
    config.share_embedding_table = tied.value_or(true);
    config.architecture = "Gemma2ForCausalLM";
    TRIREME_ASSIGN_OR_RETURN(const std::optional<std::string> act,
                             hf.String({"hidden_activation"}));
    config.hidden_act = act.value_or("gelu_pytorch_tanh");
    TRIREME_RETURN_IF_ERROR(ParseActivation(config.hidden_act).status());
    TRIREME_ASSIGN_OR_RETURN(const std::optional<bool> bias, hf.Bool({"attention_bias"}));
    config.attn_bias = config.dense_bias = bias.value_or(false);
    TRIREME_RETURN_IF_ERROR(ReadWindows(hf, config));
    for (const char* key : kOwnKeys) {
      TRIREME_ASSIGN_OR_RETURN(const std::optional<double> value, hf.Double({key}));
      if (!value) continue;
      if (!(*value > 0))
        return InvalidArgument("config.json: '{}' is {}, not positive", key, *value);
      config.extra[key] = fmt::format("{}", *value);
    }
    return config;
  }

  StatusOr<std::vector<TensorRule>> TensorRules(const ModelConfig& config) const override {
    RuleList rules;
    rules.Embedding("vocab_embedding", "model.embed_tokens");
    for (int layer = 0; layer < config.num_hidden_layers; ++layer) {
      rules.BeginLayer(layer, fmt::format("model.layers.{}.", layer));
      rules.Norm("input_layernorm", "input_layernorm");
      AddSeparateAttention(rules, config);
      rules.Norm("post_layernorm", "post_attention_layernorm");
      rules.Norm("pre_feedforward_layernorm", "pre_feedforward_layernorm");
      AddSeparateGatedMlp(rules, config);
      rules.Norm("post_feedforward_layernorm", "post_feedforward_layernorm");
    }
    rules.EndLayers();
    rules.Norm("ln_f", "model.norm");
    rules.Head("lm_head", "model.embed_tokens");
    return rules.Take();
  }

  StatusOr<Network> BuildNetwork(const ModelConfig& config) const override {
    TRIREME_ASSIGN_OR_RETURN(DecoderBuilder build, DecoderBuilder::Create(config));
    TRIREME_ASSIGN_OR_RETURN(const double scalar,
                             OwnNumber(config, "query_pre_attn_scalar", config.head_size));
    TRIREME_ASSIGN_OR_RETURN(const double score_cap,
                             OwnNumber(config, "attn_logit_softcapping", 0.0));
    TRIREME_ASSIGN_OR_RETURN(const double logit_cap,
                             OwnNumber(config, "final_logit_softcapping", 0.0));
    Network& net = build.network();
    const auto norm = [&](Value x, const std::string& name) {
      return build.RmsNorm(x, name, /*gamma_offset=*/true);
    };
    Value hidden = build.Embedding(std::sqrt(static_cast<double>(config.hidden_size)));
    for (int layer = 0; layer < build.num_layers(); ++layer) {
      const std::string prefix = LayerPrefix(layer);
      const Value attended =
          build.Attention(norm(hidden, prefix + "input_layernorm"), layer,
                          {.scale = 1.0 / std::sqrt(scalar), .soft_cap = score_cap});
      hidden = net.Add(hidden, norm(attended, prefix + "post_layernorm"));
      const Value mlp = build.GatedMlp(norm(hidden, prefix + "pre_feedforward_layernorm"), layer);
      hidden = net.Add(hidden, norm(mlp, prefix + "post_feedforward_layernorm"));
    }
    return build.Finish(norm(net.SelectLogitRows(hidden), "transformer.ln_f"),
                        {.soft_cap = logit_cap});
  }

 private:
  static constexpr const char* kOwnKeys[] = {"query_pre_attn_scalar", "attn_logit_softcapping",
                                             "final_logit_softcapping"};

  // Windowed and full layers take turns, windowed first, unless the configuration lists them.
  static Status ReadWindows(const HfConfigView& hf, ModelConfig& config) {
    TRIREME_ASSIGN_OR_RETURN(const std::optional<int64_t> window, hf.Int({"sliding_window"}));
    if (!window) return OkStatus();
    TRIREME_RETURN_IF_ERROR(CheckWindow(*window));
    TRIREME_ASSIGN_OR_RETURN(const auto types, hf.Strings({"layer_types"}));
    if (types && static_cast<int>(types->size()) != config.num_hidden_layers) {
      return InvalidArgument("config.json: 'layer_types' has {} entries for {} layers",
                             types->size(), config.num_hidden_layers);
    }
    for (int layer = 0; layer < config.num_hidden_layers; ++layer) {
      const bool windowed = types ? (*types)[layer] == "sliding_attention" : layer % 2 == 0;
      config.attention_window_sizes.push_back(windowed ? static_cast<int>(*window) : 0);
    }
    return OkStatus();
  }
};

}  // namespace

std::unique_ptr<const ModelFamily> MakeGemma2Family() { return std::make_unique<Gemma2Family>(); }

}  // namespace trireme::models
