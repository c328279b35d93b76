// SPDX-License-Identifier: Apache-2.0
// Mixtral: Mistral with a mixture of experts in place of the MLP.
#include "base/status.h"
#include "models/builtin.h"
#include "models/decoder.h"

namespace trireme::models {
namespace {

class MixtralFamily : public ModelFamily {
 public:
  std::vector<std::string> HfArchitectures() const override { return {"MixtralForCausalLM"}; }

  bool Matches(const ModelConfig& config) const override {
    return config.architecture == "MixtralForCausalLM";
  }

  StatusOr<ModelConfig> ConfigFromHf(const HfConfigView& hf) const override {
    TRIREME_ASSIGN_OR_RETURN(ModelConfig config, CommonConfigFromHf(hf));
    config.architecture = "MixtralForCausalLM";
    TRIREME_RETURN_IF_ERROR(ReadUniformWindow(hf, config));
    TRIREME_ASSIGN_OR_RETURN(config.moe, ReadMoe(hf, {"num_local_experts", "num_experts"}));
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
      AddExperts(rules, config,
                 {.router = "block_sparse_moe.gate",
                  .experts = "block_sparse_moe.experts",
                  .gate = "w1",
                  .up = "w3",
                  .down = "w2"});
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

std::unique_ptr<const ModelFamily> MakeMixtralFamily() { return std::make_unique<MixtralFamily>(); }

}  // namespace trireme::models
