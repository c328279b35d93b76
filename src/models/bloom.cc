// SPDX-License-Identifier: Apache-2.0
// BLOOM: ALiBi positions, a layer norm behind the embedding, biases everywhere, a plain MLP, the head
// tied to the embedding, and q, k, v published as one tensor that interleaves them head by head.
#include "base/status.h"
#include "models/builtin.h"
#include "models/decoder.h"
#include "models/decoder_builder.h"

namespace trireme::models {
namespace {

// Rows [heads, 3, dim] become [3, heads, dim].
int64_t SeparatedHeadsRow(int64_t row, int64_t num_rows, int64_t heads) {
  const int64_t dim = num_rows / (3 * heads);
  const int64_t kind = row / (heads * dim);
  const int64_t head = row / dim % heads;
  return (head * 3 + kind) * dim + row % dim;
}

class BloomFamily : public ModelFamily {
 public:
  std::vector<std::string> HfArchitectures() const override {
    return {"BloomForCausalLM", "BloomModel"};
  }

  bool Matches(const ModelConfig& config) const override {
    return config.architecture == "BloomForCausalLM";
  }

  StatusOr<ModelConfig> ConfigFromHf(const HfConfigView& hf) const override {
    TRIREME_ASSIGN_OR_RETURN(ModelConfig config, BiasedTiedConfigFromHf(hf));
    config.architecture = "BloomForCausalLM";
    config.position_embedding_type = "alibi";
    // The configuration names none: BLOOM's GELU is the tanh form.
    config.hidden_act = "gelu_tanh";
    config.num_key_value_heads = config.num_attention_heads;
    TRIREME_ASSIGN_OR_RETURN(const std::optional<bool> post_norm_residual,
                             hf.Bool({"apply_residual_connection_post_layernorm"}));
    if (post_norm_residual.value_or(false)) {
      return Unimplemented("BLOOM with apply_residual_connection_post_layernorm is not supported");
    }
    return config;
  }

  StatusOr<std::vector<TensorRule>> TensorRules(const ModelConfig& config) const override {
    RuleList rules({"transformer.", ""});
    const RuleOptions bias{.bias = true};
    rules.Embedding("vocab_embedding", "word_embeddings");
    rules.Norm("ln_embed", "word_embeddings_layernorm", bias);
    const RuleOptions fused{
        .bias = true,
        .source_row = [heads = config.num_attention_heads](int64_t row, int64_t num_rows) {
          return SeparatedHeadsRow(row, num_rows, heads);
        }};
    for (int layer = 0; layer < config.num_hidden_layers; ++layer) {
      rules.BeginLayer(layer, fmt::format("h.{}.", layer));
      rules.Norm("input_layernorm", "input_layernorm", bias);
      rules.Linear("attention.qkv", {"self_attention.query_key_value"}, TensorSplit::kQkvRows,
                   fused);
      rules.Linear("attention.dense", {"self_attention.dense"}, TensorSplit::kColumns, bias);
      rules.Norm("post_layernorm", "post_attention_layernorm", bias);
      rules.Linear("mlp.fc", {"mlp.dense_h_to_4h"}, TensorSplit::kRows, bias);
      rules.Linear("mlp.proj", {"mlp.dense_4h_to_h"}, TensorSplit::kColumns, bias);
    }
    rules.EndLayers();
    rules.Norm("ln_f", "ln_f", bias);
    rules.Head("lm_head", "word_embeddings");
    return rules.Take();
  }

  StatusOr<Network> BuildNetwork(const ModelConfig& config) const override {
    TRIREME_ASSIGN_OR_RETURN(DecoderBuilder build, DecoderBuilder::Create(config));
    return build.FinishLayerNormLayers(build.LayerNorm(build.Embedding(), "transformer.ln_embed"));
  }
};

}  // namespace

std::unique_ptr<const ModelFamily> MakeBloomFamily() { return std::make_unique<BloomFamily>(); }

}  // namespace trireme::models
