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
    return ExpertRules(config, {.router = "block_sparse_moe.gate",
                                .experts = "block_sparse_moe.experts",
                                .gate = "w1",
                                .up = "w3",
                                .down = "w2"});
  }

  StatusOr<Network> BuildNetwork(const ModelConfig& config) const override {
    return LlamaShapedNetwork(config);
  }
};

}  // namespace

std::unique_ptr<const ModelFamily> MakeMixtralFamily() { return std::make_unique<MixtralFamily>(); }

}  // namespace trireme::models
