// SPDX-License-Identifier: Apache-2.0
// BLOOM: ALiBi positions, a layer norm behind the embedding, biases everywhere, a plain MLP, the head
// tied to the embedding, and q, k, v published as one tensor that interleaves them head by head.
#include <algorithm>

#include "base/status.h"
#include "models/builtin.h"
#include "models/decoder.h"
#include "models/decoder_builder.h"

namespace trireme::models {
namespace {

// Rows [heads, 3, dim] become [3, heads, dim].
void SeparateHeads(std::span<float> values, int heads) {
  const std::vector<float> published(values.begin(), values.end());
  const size_t block = values.size() / (3 * static_cast<size_t>(heads));  // one head of q, k or v
  for (size_t head = 0; head < static_cast<size_t>(heads); ++head) {
    for (size_t kind = 0; kind < 3; ++kind) {
      std::copy_n(published.begin() + (head * 3 + kind) * block, block,
                  values.begin() + (kind * heads + head) * block);
    }
  }
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
    TRIREME_ASSIGN_OR_RETURN(ModelConfig config, CommonConfigFromHf(hf));
    TRIREME_ASSIGN_OR_RETURN(const std::optional<bool> tied, hf.Bool({"tie_word_embeddings"}));
    config.share_embedding_table = tied.value_or(true);
    config.architecture = "BloomForCausalLM";
    config.position_embedding_type = "alibi";
    // The configuration names none: BLOOM's GELU is the tanh form.
    config.hidden_act = "gelu_tanh";
    config.attn_bias = config.dense_bias = config.mlp_bias = true;
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
        .edit = [heads = config.num_attention_heads](std::span<float> values, int64_t, int64_t) {
          SeparateHeads(values, heads);
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
    Network& net = build.network();
    Value hidden = build.LayerNorm(build.Embedding(), "transformer.ln_embed");
    for (int layer = 0; layer < build.num_layers(); ++layer) {
      const std::string prefix = LayerPrefix(layer);
      hidden = net.Add(hidden,
                       build.Attention(build.LayerNorm(hidden, prefix + "input_layernorm"), layer));
      hidden =
          net.Add(hidden, build.Mlp(build.LayerNorm(hidden, prefix + "post_layernorm"), layer));
    }
    return build.Finish(build.LayerNorm(net.SelectLogitRows(hidden), "transformer.ln_f"));
  }
};

}  // namespace

std::unique_ptr<const ModelFamily> MakeBloomFamily() { return std::make_unique<BloomFamily>(); }

}  // namespace trireme::models
