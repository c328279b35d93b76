// SPDX-License-Identifier: Apache-2.0
// Llama 1, 2, 3, 3.1, 3.2 and the many models published under their architecture.
#include "base/status.h"
#include "models/builtin.h"
#include "models/decoder.h"

namespace trireme::models {
namespace {

class LlamaFamily : public ModelFamily {
 public:
  std::vector<std::string> HfArchitectures() const override {
    return {"LlamaForCausalLM", "LLaMAForCausalLM"};
  }

  bool Matches(const ModelConfig& config) const override {
    return config.architecture == "LlamaForCausalLM";
  }

  StatusOr<ModelConfig> ConfigFromHf(const HfConfigView& hf) const override {
    TRIREME_ASSIGN_OR_RETURN(ModelConfig config, CommonConfigFromHf(hf));
    config.architecture = "LlamaForCausalLM";
    TRIREME_ASSIGN_OR_RETURN(const std::optional<bool> attention_bias, hf.Bool({"attention_bias"}));
    TRIREME_ASSIGN_OR_RETURN(const std::optional<bool> mlp_bias, hf.Bool({"mlp_bias"}));
    config.attn_bias = attention_bias.value_or(false);
    config.dense_bias = config.attn_bias;
    config.mlp_bias = mlp_bias.value_or(false);
    return config;
  }

  StatusOr<std::vector<TensorRule>> TensorRules(const ModelConfig& config) const override {
    return LlamaShapedRules(config);
  }

  StatusOr<Network> BuildNetwork(const ModelConfig& config) const override {
    return LlamaShapedNetwork(config);
  }
};

}  // namespace

std::unique_ptr<const ModelFamily> MakeLlamaFamily() { return std::make_unique<LlamaFamily>(); }

}  // namespace trireme::models
