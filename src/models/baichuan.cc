// SPDX-License-Identifier: Apache-2.0
// Baichuan 1 and 2, whose repositories run custom code: Llama's shape with q, k, v published as one
// tensor; the 7B models rotate, the 13B models use ALiBi; Baichuan 2 normalises the rows of its head.
#include <algorithm>
#include <cmath>

#include "base/status.h"
#include "models/builtin.h"
#include "models/decoder.h"

namespace trireme::models {
namespace {

// Nothing else in a configuration tells Baichuan 2 from Baichuan 1.
constexpr int kBaichuan2Vocab = 125696;

// As torch.nn.functional.normalize: a row shorter than 1e-12 is divided by that.
void NormaliseRows(std::span<float> values, int64_t rows, int64_t columns) {
  for (int64_t row = 0; row < rows; ++row) {
    const std::span<float> own =
        values.subspan(static_cast<size_t>(row * columns), static_cast<size_t>(columns));
    double squares = 0;
    for (const float value : own) squares += double{value} * value;
    const double norm = std::max(std::sqrt(squares), 1e-12);
    for (float& value : own) value = static_cast<float>(value / norm);
  }
}

class BaichuanFamily : public ModelFamily {
 public:
  std::vector<std::string> HfArchitectures() const override {
    return {"BaichuanForCausalLM", "BaiChuanForCausalLM"};
  }

  bool Matches(const ModelConfig& config) const override {
    return config.architecture == "BaichuanForCausalLM";
  }

  StatusOr<ModelConfig> ConfigFromHf(const HfConfigView& hf) const override {
    TRIREME_ASSIGN_OR_RETURN(ModelConfig config, CommonConfigFromHf(hf));
    config.architecture = "BaichuanForCausalLM";
    // The 13B configurations name no max_position_embeddings: ALiBi has no table to size.
    TRIREME_ASSIGN_OR_RETURN(const std::optional<int64_t> positions,
                             hf.Int({"max_position_embeddings"}));
    if (!positions) {
      config.position_embedding_type = "alibi";
      TRIREME_ASSIGN_OR_RETURN(config.max_position_embeddings,
                               OptionalSize(hf, {"model_max_length"}, 4096));
    }
    return config;
  }

  StatusOr<std::vector<TensorRule>> TensorRules(const ModelConfig& config) const override {
    RuleList rules;
    rules.Embedding("vocab_embedding", "model.embed_tokens");
    for (int layer = 0; layer < config.num_hidden_layers; ++layer) {
      rules.BeginLayer(layer, fmt::format("model.layers.{}.", layer));
      rules.Norm("input_layernorm", "input_layernorm");
      rules.Linear("attention.qkv", {"self_attn.W_pack"}, TensorSplit::kQkvRows);
      rules.Linear("attention.dense", {"self_attn.o_proj"}, TensorSplit::kColumns);
      rules.Norm("post_layernorm", "post_attention_layernorm");
      AddSeparateGatedMlp(rules, config);
    }
    rules.EndLayers();
    rules.Norm("ln_f", "model.norm");
    RuleOptions head;
    if (config.vocab_size == kBaichuan2Vocab) head.edit = NormaliseRows;
    rules.Head("lm_head", "", head);
    return rules.Take();
  }

  StatusOr<Network> BuildNetwork(const ModelConfig& config) const override {
    return LlamaShapedNetwork(config);
  }
};

}  // namespace

std::unique_ptr<const ModelFamily> MakeBaichuanFamily() {
  return std::make_unique<BaichuanFamily>();
}

}  // namespace trireme::models
