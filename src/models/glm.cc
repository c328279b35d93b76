// SPDX-License-Identifier: Apache-2.0
// GLM-4 as transformers publishes it: Llama's shape with biases on q, k and v, interleaved rotation
// of half of each head, and gate and up in one tensor. THUDM's own layout is in chatglm.cc.
#include "base/status.h"
#include "models/builtin.h"
#include "models/decoder.h"

namespace trireme::models {
namespace {

class GlmFamily : public ModelFamily {
 public:
  std::vector<std::string> HfArchitectures() const override { return {"GlmForCausalLM"}; }

  bool Matches(const ModelConfig& config) const override {
    return config.architecture == "GlmForCausalLM";
  }

  StatusOr<ModelConfig> ConfigFromHf(const HfConfigView& hf) const override {
    TRIREME_ASSIGN_OR_RETURN(ModelConfig config, CommonConfigFromHf(hf));
    config.architecture = "GlmForCausalLM";
    config.position_embedding_type = "rope_gptj";
    TRIREME_ASSIGN_OR_RETURN(const std::optional<double> share,
                             hf.Double({"partial_rotary_factor"}));
    if (config.rotary_pct == 1.0) config.rotary_pct = share.value_or(0.5);
    TRIREME_ASSIGN_OR_RETURN(const std::optional<bool> bias, hf.Bool({"attention_bias"}));
    config.attn_bias = bias.value_or(false);
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
      AddFusedGatedMlp(rules, "mlp.gate_up_proj", "mlp.down_proj", config.mlp_bias);
    }
    rules.EndLayers();
    rules.Norm("ln_f", "model.norm");
    rules.Head("lm_head", "model.embed_tokens");
    return rules.Take();
  }

  StatusOr<Network> BuildNetwork(const ModelConfig& config) const override {
    return LlamaShapedNetwork(config);
  }
};

}  // namespace

std::unique_ptr<const ModelFamily> MakeGlmFamily() { return std::make_unique<GlmFamily>(); }

}  // namespace trireme::models
