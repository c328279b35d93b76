// SPDX-License-Identifier: Apache-2.0
// Qwen3: Llama's shape with an RMS norm on every head of q and k, its own head size and no biases.
#include "base/status.h"
#include "models/builtin.h"
#include "models/decoder.h"

namespace trireme::models {
namespace {

class Qwen3Family : public ModelFamily {
 public:
  std::vector<std::string> HfArchitectures() const override { return {"Qwen3ForCausalLM"}; }

  bool Matches(const ModelConfig& config) const override {
    const auto type = config.extra.find("qwen_type");
    return config.architecture == "QWenForCausalLM" && type != config.extra.end() &&
           type->second == "\"qwen3\"";
  }

  StatusOr<ModelConfig> ConfigFromHf(const HfConfigView& hf) const override {
    TRIREME_ASSIGN_OR_RETURN(ModelConfig config, CommonConfigFromHf(hf));
    config.architecture = "QWenForCausalLM";
    config.extra["qwen_type"] = "\"qwen3\"";
    config.qk_layernorm = true;
    TRIREME_ASSIGN_OR_RETURN(const std::optional<bool> bias, hf.Bool({"attention_bias"}));
    config.attn_bias = bias.value_or(false);
    config.dense_bias = config.attn_bias;
    TRIREME_RETURN_IF_ERROR(ReadQwenWindows(hf, config));
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

std::unique_ptr<const ModelFamily> MakeQwen3Family() { return std::make_unique<Qwen3Family>(); }

}  // namespace trireme::models
