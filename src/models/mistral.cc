// SPDX-License-Identifier: Apache-2.0
// Mistral: Llama's shape with a sliding attention window in the versions that have one.
#include "base/status.h"
#include "models/builtin.h"
#include "models/decoder.h"

namespace trireme::models {
namespace {

class MistralFamily : public ModelFamily {
 public:
  std::vector<std::string> HfArchitectures() const override { return {"MistralForCausalLM"}; }

  bool Matches(const ModelConfig& config) const override {
    return config.architecture == "MistralForCausalLM";
  }

  StatusOr<ModelConfig> ConfigFromHf(const HfConfigView& hf) const override {
    TRIREME_ASSIGN_OR_RETURN(ModelConfig config, CommonConfigFromHf(hf));
    config.architecture = "MistralForCausalLM";
    TRIREME_RETURN_IF_ERROR(ReadUniformWindow(hf, config));
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

std::unique_ptr<const ModelFamily> MakeMistralFamily() { return std::make_unique<MistralFamily>(); }

}  // namespace trireme::models
