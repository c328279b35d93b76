// SPDX-License-Identifier: Apache-2.0
// GPT-J: attention and a plain MLP side by side behind one layer norm, interleaved rotation of the
// first values of each head, and a head with a bias.
#include "base/status.h"
#include "models/builtin.h"
#include "models/decoder.h"
#include "models/decoder_builder.h"

namespace trireme::models {
namespace {

class GptJFamily : public ModelFamily {
 public:
  std::vector<std::string> HfArchitectures() const override { return {"GPTJForCausalLM"}; }

  bool Matches(const ModelConfig& config) const override {
    return config.architecture == "GPTJForCausalLM";
  }

  StatusOr<ModelConfig> ConfigFromHf(const HfConfigView& hf) const override {
    TRIREME_ASSIGN_OR_RETURN(ModelConfig config, CommonConfigFromHf(hf));
    config.architecture = "GPTJForCausalLM";
    config.position_embedding_type = "rope_gptj";
    config.mlp_bias = true;
    TRIREME_ASSIGN_OR_RETURN(const std::optional<int64_t> dim, hf.Int({"rotary_dim"}));
    if (dim && (*dim <= 0 || *dim > config.head_size || *dim % 2 != 0)) {
      return InvalidArgument(
          "config.json: 'rotary_dim' {} is not an even count within head size {}", *dim,
          config.head_size);
    }
    if (dim) config.rotary_pct = static_cast<double>(*dim) / config.head_size;
    return config;
  }

  StatusOr<std::vector<TensorRule>> TensorRules(const ModelConfig& config) const override {
    RuleList rules({"transformer.", ""});
    rules.Embedding("vocab_embedding", "wte");
    const RuleOptions bias{.bias = true};
    for (int layer = 0; layer < config.num_hidden_layers; ++layer) {
      rules.BeginLayer(layer, fmt::format("h.{}.", layer));
      rules.Norm("input_layernorm", "ln_1", bias);
      rules.Linear("attention.qkv", {"attn.q_proj", "attn.k_proj", "attn.v_proj"},
                   TensorSplit::kQkvRows);
      rules.Linear("attention.dense", {"attn.out_proj"}, TensorSplit::kColumns);
      rules.Linear("mlp.fc", {"mlp.fc_in"}, TensorSplit::kRows, bias);
      rules.Linear("mlp.proj", {"mlp.fc_out"}, TensorSplit::kColumns, bias);
    }
    rules.EndLayers();
    rules.Norm("ln_f", "ln_f", bias);
    rules.Head("lm_head", "", bias);
    return rules.Take();
  }

  StatusOr<Network> BuildNetwork(const ModelConfig& config) const override {
    TRIREME_ASSIGN_OR_RETURN(DecoderBuilder build, DecoderBuilder::Create(config));
    Network& net = build.network();
    Value hidden = build.Embedding();
    for (int layer = 0; layer < build.num_layers(); ++layer) {
      const Value x = build.LayerNorm(hidden, LayerPrefix(layer) + "input_layernorm");
      hidden = net.Add(net.Add(hidden, build.Attention(x, layer)), build.Mlp(x, layer));
    }
    const Value last = build.LayerNorm(net.SelectLogitRows(hidden), "transformer.ln_f");
    return build.Finish(last, {.bias = true});
  }
};

}  // namespace

std::unique_ptr<const ModelFamily> MakeGptJFamily() { return std::make_unique<GptJFamily>(); }

}  // namespace trireme::models
