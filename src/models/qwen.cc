// SPDX-License-Identifier: Apache-2.0
// Qwen 1, whose repositories run custom code: Llama's shape with biases on q, k and v, published as
// one tensor. Past `seq_length` the original changes the rotary base with the length (dynamic NTK)
// and scales queries by the logarithm of their position (logn); up to it both change nothing, so
// that is how long sequences may be here.
#include "base/status.h"
#include "models/builtin.h"
#include "models/decoder.h"

namespace trireme::models {
namespace {

class QwenFamily : public ModelFamily {
 public:
  std::vector<std::string> HfArchitectures() const override { return {"QWenLMHeadModel"}; }

  bool Matches(const ModelConfig& config) const override {
    const auto type = config.extra.find("qwen_type");
    return config.architecture == "QWenForCausalLM" &&
           (type == config.extra.end() || type->second == "\"qwen\"");
  }

  StatusOr<ModelConfig> ConfigFromHf(const HfConfigView& hf) const override {
    TRIREME_ASSIGN_OR_RETURN(ModelConfig config, CommonConfigFromHf(hf));
    config.architecture = "QWenForCausalLM";
    config.extra["qwen_type"] = "\"qwen\"";
    config.attn_bias = true;
    // The published size counts gate and up together.
    if (config.intermediate_size % 2 != 0) {
      return InvalidArgument("config.json: 'intermediate_size' {} is odd; Qwen 1 counts two halves",
                             config.intermediate_size);
    }
    config.intermediate_size /= 2;
    TRIREME_ASSIGN_OR_RETURN(const std::optional<double> base, hf.Double({"rotary_emb_base"}));
    config.rotary_base = base.value_or(10000.0);
    TRIREME_ASSIGN_OR_RETURN(const std::optional<double> share, hf.Double({"rotary_pct"}));
    config.rotary_pct = share.value_or(1.0);
    if (!(config.rotary_pct > 0 && config.rotary_pct <= 1)) {
      return InvalidArgument("config.json: 'rotary_pct' is {}, not a share", config.rotary_pct);
    }
    TRIREME_ASSIGN_OR_RETURN(const std::optional<bool> ntk, hf.Bool({"use_dynamic_ntk"}));
    TRIREME_ASSIGN_OR_RETURN(const std::optional<bool> logn, hf.Bool({"use_logn_attn"}));
    if (ntk.value_or(false) || logn.value_or(false)) {
      TRIREME_ASSIGN_OR_RETURN(config.max_position_embeddings,
                               OptionalSize(hf, {"seq_length"}, config.max_position_embeddings));
    }
    return config;
  }

  StatusOr<std::vector<TensorRule>> TensorRules(const ModelConfig& config) const override {
    RuleList rules({"transformer."});
    rules.Embedding("vocab_embedding", "wte");
    for (int layer = 0; layer < config.num_hidden_layers; ++layer) {
      rules.BeginLayer(layer, fmt::format("h.{}.", layer));
      rules.Norm("input_layernorm", "ln_1");
      rules.Linear("attention.qkv", {"attn.c_attn"}, TensorSplit::kQkvRows, {.bias = true});
      rules.Linear("attention.dense", {"attn.c_proj"}, TensorSplit::kColumns);
      rules.Norm("post_layernorm", "ln_2");
      rules.Linear("mlp.fc", {"mlp.w2"}, TensorSplit::kRows);
      rules.Linear("mlp.gate", {"mlp.w1"}, TensorSplit::kRows);
      rules.Linear("mlp.proj", {"mlp.c_proj"}, TensorSplit::kColumns);
    }
    rules.EndLayers();
    rules.Norm("ln_f", "ln_f");
    rules.Head("lm_head", "wte");
    return rules.Take();
  }

  StatusOr<Network> BuildNetwork(const ModelConfig& config) const override {
    return LlamaShapedNetwork(config);
  }
};

}  // namespace

std::unique_ptr<const ModelFamily> MakeQwenFamily() { return std::make_unique<QwenFamily>(); }

}  // namespace trireme::models
