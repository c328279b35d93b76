// SPDX-License-Identifier: Apache-2.0
// GPT-2: layer norms, learned positions, biases everywhere, a plain MLP, the head tied to the
// embedding, and linear layers published as [in, out].
#include "base/status.h"
#include "models/builtin.h"
#include "models/decoder.h"
#include "models/decoder_builder.h"

namespace trireme::models {
namespace {

class Gpt2Family : public ModelFamily {
 public:
  std::vector<std::string> HfArchitectures() const override {
    return {"GPT2LMHeadModel", "GPT2Model"};
  }

  bool Matches(const ModelConfig& config) const override {
    return config.architecture == "GPTForCausalLM";
  }

  StatusOr<ModelConfig> ConfigFromHf(const HfConfigView& hf) const override {
    TRIREME_ASSIGN_OR_RETURN(ModelConfig config, BiasedTiedConfigFromHf(hf));
    config.architecture = "GPTForCausalLM";
    config.position_embedding_type = "learned_absolute";
    TRIREME_ASSIGN_OR_RETURN(const std::optional<bool> by_layer,
                             hf.Bool({"scale_attn_by_inverse_layer_idx"}));
    TRIREME_ASSIGN_OR_RETURN(const std::optional<bool> scaled, hf.Bool({"scale_attn_weights"}));
    if (by_layer.value_or(false) || !scaled.value_or(true)) {
      return Unimplemented(
          "GPT-2 with scale_attn_by_inverse_layer_idx or without scale_attn_weights is not "
          "supported");
    }
    return config;
  }

  StatusOr<std::vector<TensorRule>> TensorRules(const ModelConfig& config) const override {
    RuleList rules({"transformer.", ""});
    rules.Embedding("vocab_embedding", "wte");
    rules.Embedding("position_embedding", "wpe", TensorSplit::kNone);
    const RuleOptions bias{.bias = true};
    const RuleOptions conv1d{.bias = true, .transpose = true};
    for (int layer = 0; layer < config.num_hidden_layers; ++layer) {
      rules.BeginLayer(layer, fmt::format("h.{}.", layer));
      rules.Norm("input_layernorm", "ln_1", bias);
      rules.Linear("attention.qkv", {"attn.c_attn"}, TensorSplit::kQkvRows, conv1d);
      rules.Linear("attention.dense", {"attn.c_proj"}, TensorSplit::kColumns, conv1d);
      rules.Norm("post_layernorm", "ln_2", bias);
      rules.Linear("mlp.fc", {"mlp.c_fc"}, TensorSplit::kRows, conv1d);
      rules.Linear("mlp.proj", {"mlp.c_proj"}, TensorSplit::kColumns, conv1d);
    }
    rules.EndLayers();
    rules.Norm("ln_f", "ln_f", bias);
    rules.Head("lm_head", "wte");
    return rules.Take();
  }

  StatusOr<Network> BuildNetwork(const ModelConfig& config) const override {
    TRIREME_ASSIGN_OR_RETURN(DecoderBuilder build, DecoderBuilder::Create(config));
    const Value embedded = build.network().PositionEmbedding(
        build.Embedding(), "transformer.position_embedding", config.max_position_embeddings);
    return build.FinishLayerNormLayers(embedded);
  }
};

}  // namespace

std::unique_ptr<const ModelFamily> MakeGpt2Family() { return std::make_unique<Gpt2Family>(); }

}  // namespace trireme::models
