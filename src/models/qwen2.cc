// SPDX-License-Identifier: Apache-2.0
// Qwen1.5, Qwen2 and Qwen2.5: Llama's shape with biases on q, k and v.
#include "base/status.h"
#include "models/builtin.h"
#include "models/decoder.h"

namespace trireme::models {
namespace {

class Qwen2Family : public ModelFamily {
 public:
  std::vector<std::string> HfArchitectures() const override { return {"Qwen2ForCausalLM"}; }

  bool Matches(const ModelConfig& config) const override {
    const auto type = config.extra.find("qwen_type");
    return config.architecture == "QWenForCausalLM" && type != config.extra.end() &&
           type->second == "\"qwen2\"";
  }

  StatusOr<ModelConfig> ConfigFromHf(const HfConfigView& hf) const override {
    TRIREME_ASSIGN_OR_RETURN(ModelConfig config, CommonConfigFromHf(hf));
    config.architecture = "QWenForCausalLM";
    config.attn_bias = true;
    config.extra["qwen_type"] = "\"qwen2\"";
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

std::unique_ptr<const ModelFamily> MakeQwen2Family() { return std::make_unique<Qwen2Family>(); }

}  // namespace trireme::models
