// SPDX-License-Identifier: Apache-2.0
// Qwen3 with a mixture of experts in every layer.
#include "base/status.h"
#include "models/builtin.h"
#include "models/decoder.h"

namespace trireme::models {
namespace {

class Qwen3MoeFamily : public ModelFamily {
 public:
  std::vector<std::string> HfArchitectures() const override { return {"Qwen3MoeForCausalLM"}; }

  bool Matches(const ModelConfig& config) const override {
    const auto type = config.extra.find("qwen_type");
    return config.architecture == "QWenForCausalLM" && type != config.extra.end() &&
           type->second == "\"qwen3_moe\"";
  }

  StatusOr<ModelConfig> ConfigFromHf(const HfConfigView& hf) const override {
    TRIREME_ASSIGN_OR_RETURN(ModelConfig config, CommonConfigFromHf(hf));
    config.architecture = "QWenForCausalLM";
    config.extra["qwen_type"] = "\"qwen3_moe\"";
    config.qk_layernorm = true;
    TRIREME_ASSIGN_OR_RETURN(const std::optional<bool> bias, hf.Bool({"attention_bias"}));
    config.attn_bias = config.dense_bias = bias.value_or(false);
    TRIREME_RETURN_IF_ERROR(ReadQwenWindows(hf, config));
    TRIREME_ASSIGN_OR_RETURN(config.moe, ReadMoe(hf, {"num_experts"}));
    TRIREME_ASSIGN_OR_RETURN(config.intermediate_size,
                             OptionalSize(hf, {"moe_intermediate_size"}, config.intermediate_size));
    TRIREME_ASSIGN_OR_RETURN(const std::optional<bool> norm, hf.Bool({"norm_topk_prob"}));
    config.moe.normalization_mode = norm.value_or(false) ? 1 : 0;
    TRIREME_ASSIGN_OR_RETURN(const std::optional<int64_t> step, hf.Int({"decoder_sparse_step"}));
    if (step.value_or(1) != 1) {
      return Unimplemented(
          "config.json: 'decoder_sparse_step' {}; experts in every layer are supported", *step);
    }
    return config;
  }

  StatusOr<std::vector<TensorRule>> TensorRules(const ModelConfig& config) const override {
    return ExpertRules(config, {.router = "mlp.gate",
                                .experts = "mlp.experts",
                                .gate = "gate_proj",
                                .up = "up_proj",
                                .down = "down_proj"});
  }

  StatusOr<Network> BuildNetwork(const ModelConfig& config) const override {
    return LlamaShapedNetwork(config);
  }
};

}  // namespace

std::unique_ptr<const ModelFamily> MakeQwen3MoeFamily() {
  return std::make_unique<Qwen3MoeFamily>();
}

}  // namespace trireme::models
