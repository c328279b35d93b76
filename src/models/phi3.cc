// SPDX-License-Identifier: Apache-2.0
// Phi-3 and Phi-3.5: Llama's shape, published with q, k, v in one tensor and gate and up in another;
// long-context versions rotate with their own factor per frequency ("longrope").
#include "base/status.h"
#include "models/builtin.h"
#include "models/decoder.h"

namespace trireme::models {
namespace {

class Phi3Family : public ModelFamily {
 public:
  std::vector<std::string> HfArchitectures() const override { return {"Phi3ForCausalLM"}; }

  bool Matches(const ModelConfig& config) const override {
    return config.architecture == "Phi3ForCausalLM";
  }

  StatusOr<ModelConfig> ConfigFromHf(const HfConfigView& hf) const override {
    TRIREME_ASSIGN_OR_RETURN(ModelConfig config, CommonConfigFromHf(hf));
    config.architecture = "Phi3ForCausalLM";
    TRIREME_RETURN_IF_ERROR(ReadUniformWindow(hf, config));
    return config;
  }

  StatusOr<std::vector<TensorRule>> TensorRules(const ModelConfig& config) const override {
    RuleList rules;
    rules.Embedding("vocab_embedding", "model.embed_tokens");
    for (int layer = 0; layer < config.num_hidden_layers; ++layer) {
      rules.BeginLayer(layer, fmt::format("model.layers.{}.", layer));
      rules.Norm("input_layernorm", "input_layernorm");
      rules.Linear("attention.qkv", {"self_attn.qkv_proj"}, TensorSplit::kQkvRows);
      rules.Linear("attention.dense", {"self_attn.o_proj"}, TensorSplit::kColumns);
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

std::unique_ptr<const ModelFamily> MakePhi3Family() { return std::make_unique<Phi3Family>(); }

}  // namespace trireme::models
