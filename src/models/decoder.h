// SPDX-License-Identifier: Apache-2.0
// What most decoder-only families share: configuration keys, tensor rules and the pre-norm layer.
// Pure functions.
#pragma once

#include <string>
#include <vector>

#include "models/rule_list.h"
#include "trireme/model_family.h"

namespace trireme::models {

// The keys nearly every config.json has, under all their names: sizes, head counts, activation,
// norm epsilon, rotary settings, tied embeddings. Missing sizes are INVALID_ARGUMENT.
StatusOr<ModelConfig> CommonConfigFromHf(const HfConfigView& hf);

// The same for families with biases everywhere, whose head is the embedding table unless
// `tie_word_embeddings` denies it.
StatusOr<ModelConfig> BiasedTiedConfigFromHf(const HfConfigView& hf);

// A size that some configurations leave out.
StatusOr<int> OptionalSize(const HfConfigView& hf, HfConfigView::Keys keys, int fallback);

// `sliding_window` for every layer; none when the key is absent.
Status ReadUniformWindow(const HfConfigView& hf, ModelConfig& config);
// As Qwen 2 and 3 write it: `use_sliding_window` and the first windowed layer.
Status ReadQwenWindows(const HfConfigView& hf, ModelConfig& config);
Status CheckWindow(int64_t window);

// A number among the keys that only one family knows.
StatusOr<double> OwnNumber(const ModelConfig& config, const std::string& key, double fallback);

// Head and width counts of one rank.
struct RankShape {
  int num_heads = 0;
  int num_kv_heads = 0;
  int64_t intermediate_size = 0;
  int64_t vocab_size = 0;       // rows of lm_head
  int64_t embedding_vocab = 0;  // rows of the embedding table
  int64_t embedding_width = 0;
  int first_layer = 0;  // global index of the rank's first layer
  int num_layers = 0;
};

// INVALID_ARGUMENT when the model cannot be cut that way, naming the numbers.
StatusOr<RankShape> ShapeOfRank(const ModelConfig& config);

// "transformer.layers.3." with the rank's own numbering.
std::string LayerPrefix(int layer);

// Attention and gated MLP of a layer as most families publish them: q_proj, k_proj, v_proj (with
// norms of the heads where the model has them), o_proj; gate_proj, up_proj, down_proj.
void AddSeparateAttention(RuleList& rules, const ModelConfig& config);
void AddSeparateGatedMlp(RuleList& rules, const ModelConfig& config);
// Gate and up published as one tensor, gate first.
void AddFusedGatedMlp(RuleList& rules, const std::string& gate_up, const std::string& down,
                      bool bias);

// The router and the experts of a layer: `experts`.3.`gate` and so on.
struct ExpertNames {
  std::string router, experts, gate, up, down;
};
// Published names of a Llama-shaped model with experts of these names in place of each MLP.
StatusOr<std::vector<TensorRule>> ExpertRules(const ModelConfig& config, const ExpertNames& names);
// `num_experts_per_tok` of so many experts.
StatusOr<MoeConfig> ReadMoe(const HfConfigView& hf, HfConfigView::Keys num_experts);

// Published names of a Llama-shaped model, "model.layers.3.self_attn.q_proj.weight" and so on.
std::vector<TensorRule> LlamaShapedRules(const ModelConfig& config);

// Embedding, pre-norm layers of GQA attention and gated MLP (or experts) with RMS norms, final
// norm, head.
StatusOr<Network> LlamaShapedNetwork(const ModelConfig& config);

}  // namespace trireme::models
