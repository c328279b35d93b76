// SPDX-License-Identifier: Apache-2.0
// ChatGLM2, ChatGLM3 and GLM-4 in THUDM's own layout, whose repositories run custom code: Llama's
// shape with multi-query attention, q, k, v in one tensor with biases, gate and up in another, and
// interleaved rotation of the first half of each head.
#include "base/status.h"
#include "models/builtin.h"
#include "models/decoder.h"

namespace trireme::models {
namespace {

class ChatGlmFamily : public ModelFamily {
 public:
  std::vector<std::string> HfArchitectures() const override {
    return {"ChatGLMModel", "ChatGLMForConditionalGeneration"};
  }

  bool Matches(const ModelConfig& config) const override {
    return config.architecture == "ChatGLMForCausalLM";
  }

  StatusOr<ModelConfig> ConfigFromHf(const HfConfigView& hf) const override {
    TRIREME_RETURN_IF_ERROR(CheckVersion(hf));
    TRIREME_ASSIGN_OR_RETURN(ModelConfig config, CommonConfigFromHf(hf));
    config.architecture = "ChatGLMForCausalLM";
    config.position_embedding_type = "rope_gptj";
    config.rotary_pct = 0.5;
    TRIREME_ASSIGN_OR_RETURN(const std::optional<bool> qkv_bias, hf.Bool({"add_qkv_bias"}));
    TRIREME_ASSIGN_OR_RETURN(const std::optional<bool> bias, hf.Bool({"add_bias_linear"}));
    config.dense_bias = config.mlp_bias = bias.value_or(false);
    config.attn_bias = qkv_bias.value_or(false) || config.dense_bias;
    TRIREME_RETURN_IF_ERROR(ReadGroups(hf, config));
    TRIREME_RETURN_IF_ERROR(ReadRopeRatio(hf, config));
    return config;
  }

  StatusOr<std::vector<TensorRule>> TensorRules(const ModelConfig& config) const override {
    RuleList rules({"transformer."});
    rules.Embedding("vocab_embedding", "embedding.word_embeddings");
    for (int layer = 0; layer < config.num_hidden_layers; ++layer) {
      rules.BeginLayer(layer, fmt::format("encoder.layers.{}.", layer));
      rules.Norm("input_layernorm", "input_layernorm");
      rules.Linear("attention.qkv", {"self_attention.query_key_value"}, TensorSplit::kQkvRows,
                   {.bias = config.attn_bias});
      rules.Linear("attention.dense", {"self_attention.dense"}, TensorSplit::kColumns,
                   {.bias = config.dense_bias});
      rules.Norm("post_layernorm", "post_attention_layernorm");
      AddFusedGatedMlp(rules, "mlp.dense_h_to_4h", "mlp.dense_4h_to_h", config.mlp_bias);
    }
    rules.EndLayers();
    rules.Norm("ln_f", "encoder.final_layernorm");
    rules.Head("output_layer", "embedding.word_embeddings");
    return rules.Take();
  }

  StatusOr<Network> BuildNetwork(const ModelConfig& config) const override {
    return LlamaShapedNetwork(config);
  }

 private:
  static Status CheckVersion(const HfConfigView& hf) {
    TRIREME_ASSIGN_OR_RETURN(const std::optional<bool> two_dimensional,
                             hf.Bool({"position_encoding_2d"}));
    TRIREME_ASSIGN_OR_RETURN(const std::optional<int64_t> vocab, hf.Int({"padded_vocab_size"}));
    if (two_dimensional || !vocab) {
      return Unimplemented(
          "the first ChatGLM (two-dimensional positions) is not supported; ChatGLM2, ChatGLM3 and "
          "GLM-4 are");
    }
    for (const std::string_view key : {"rmsnorm", "post_layer_norm"}) {
      TRIREME_ASSIGN_OR_RETURN(const std::optional<bool> value, hf.Bool({key}));
      if (!value.value_or(true)) return Unimplemented("ChatGLM without '{}' is not supported", key);
    }
    TRIREME_ASSIGN_OR_RETURN(const std::optional<bool> post_norm_residual,
                             hf.Bool({"apply_residual_connection_post_layernorm"}));
    if (post_norm_residual.value_or(false)) {
      return Unimplemented(
          "ChatGLM with apply_residual_connection_post_layernorm is not supported");
    }
    return OkStatus();
  }

  static Status ReadGroups(const HfConfigView& hf, ModelConfig& config) {
    TRIREME_ASSIGN_OR_RETURN(const std::optional<bool> multi_query,
                             hf.Bool({"multi_query_attention"}));
    TRIREME_ASSIGN_OR_RETURN(const std::optional<int64_t> groups,
                             hf.Int({"multi_query_group_num"}));
    if (!multi_query.value_or(false)) return OkStatus();
    if (!groups || *groups <= 0 || config.num_attention_heads % *groups != 0) {
      return InvalidArgument(
          "config.json: 'multi_query_group_num' is {}, which does not divide {} attention heads",
          groups.value_or(0), config.num_attention_heads);
    }
    config.num_key_value_heads = static_cast<int>(*groups);
    return OkStatus();
  }

  // A long-context ChatGLM2 stretches positions; later ones raise the base instead. Nothing in the
  // configuration but the repository's name tells the two apart.
  static Status ReadRopeRatio(const HfConfigView& hf, ModelConfig& config) {
    TRIREME_ASSIGN_OR_RETURN(const std::optional<double> ratio, hf.Double({"rope_ratio"}));
    if (!ratio || *ratio == 1.0) return OkStatus();
    if (!(*ratio > 0)) {
      return InvalidArgument("config.json: 'rope_ratio' is {}; it must be positive", *ratio);
    }
    TRIREME_ASSIGN_OR_RETURN(const std::optional<std::string> name, hf.String({"_name_or_path"}));
    if (name && name->find("chatglm2") != std::string::npos) {
      config.rotary_scaling.type = "linear";
      config.rotary_scaling.factor = *ratio;
    } else {
      config.rotary_base *= *ratio;
    }
    return OkStatus();
  }
};

}  // namespace

std::unique_ptr<const ModelFamily> MakeChatGlmFamily() { return std::make_unique<ChatGlmFamily>(); }

}  // namespace trireme::models
