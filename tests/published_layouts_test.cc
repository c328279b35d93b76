// SPDX-License-Identifier: Apache-2.0
// The same weights in another family's published layout give the same logits: golden checkpoints are
// rewritten as custom-code repositories and older publications have them.
#include <functional>
#include <map>

#include "golden_testing.h"
#include "models/hf_view.h"

namespace trireme {
namespace {

Tensor StackRows(const Tensors& tensors, const std::vector<std::string>& names) {
  Tensor stack = tensors.at(names.front());
  for (size_t i = 1; i < names.size(); ++i) {
    const Tensor& next = tensors.at(names[i]);
    stack.shape[0] += next.shape[0];
    stack.values.insert(stack.values.end(), next.values.begin(), next.values.end());
  }
  return stack;
}

std::vector<std::vector<float>> ContextLogits(const TestFolder& folder, const std::string& model,
                                              const std::vector<std::vector<TokenId>>& prompts) {
  convert::ConvertOptions options;
  options.dtype = "float32";
  const Status status = ConvertAndBuild(model, folder, options, {});
  EXPECT_TRUE(status.ok()) << status.ToString();
  if (!status.ok()) return {};
  return RunEngine(folder / "engine", prompts).context_logits;
}

void ExpectGoldenLogits(const std::string& golden_name, const nlohmann::json& config,
                        const Tensors& tensors) {
  const GoldenCase golden = LoadGolden(golden_name, "float32");
  TestFolder folder("layout_" + config["architectures"][0].get<std::string>());
  WriteFolder(folder / "hf", config, tensors);
  const auto logits = ContextLogits(folder, folder / "hf", golden.prompts);
  ASSERT_EQ(logits.size(), golden.logits.size());
  EXPECT_LE(Compare(logits, golden.logits, golden.std).max, 1e-4);
}

// Baichuan publishes q, k and v as W_pack; its head is never tied.
TEST(PublishedLayouts, BaichuanIsLlamaWithPackedAttention) {
  const Tensors llama = GoldenTensors("llama-mha-tied");
  nlohmann::json config = ReadConfig("llama-mha-tied");
  config["architectures"] = {"BaiChuanForCausalLM"};
  config["tie_word_embeddings"] = false;
  Tensors baichuan = llama;
  for (int layer = 0; layer < config["num_hidden_layers"]; ++layer) {
    const std::string attention = fmt::format("model.layers.{}.self_attn.", layer);
    baichuan[attention + "W_pack.weight"] = StackRows(
        llama,
        {attention + "q_proj.weight", attention + "k_proj.weight", attention + "v_proj.weight"});
    for (const char* part : {"q", "k", "v"}) baichuan.erase(attention + part + "_proj.weight");
  }
  baichuan["lm_head.weight"] = llama.at("model.embed_tokens.weight");
  ExpectGoldenLogits("llama-mha-tied", config, baichuan);
}

// Qwen 1 publishes c_attn, and names the plain branch w1 and the activated one w2.
TEST(PublishedLayouts, Qwen1IsQwen2WithFusedAttention) {
  const Tensors qwen2 = GoldenTensors("qwen2");
  const nlohmann::json published = ReadConfig("qwen2");
  const int heads = published["num_attention_heads"];
  const int kv_heads = published["num_key_value_heads"];
  const int hidden = published["hidden_size"];
  const int dim = hidden / heads;
  nlohmann::json config = {{"architectures", {"QWenLMHeadModel"}},
                           {"vocab_size", published["vocab_size"]},
                           {"hidden_size", hidden},
                           {"num_hidden_layers", published["num_hidden_layers"]},
                           {"num_attention_heads", heads},
                           {"kv_channels", dim},
                           {"intermediate_size", 2 * published["intermediate_size"].get<int>()},
                           {"layer_norm_epsilon", published["rms_norm_eps"]},
                           {"rotary_emb_base", published["rope_parameters"]["rope_theta"]},
                           {"max_position_embeddings", 1024},
                           {"seq_length", 256},
                           {"use_dynamic_ntk", true},
                           {"use_logn_attn", true},
                           {"no_bias", true}};
  Tensors qwen1;
  // Qwen 1 has as many KV heads as heads: each one is written out for the heads that share it.
  const auto repeat_heads = [&](const Tensor& tensor) {
    Tensor repeated = tensor;
    repeated.shape[0] = heads * dim;
    repeated.values.clear();
    const size_t block = tensor.values.size() / kv_heads;
    for (int head = 0; head < heads; ++head) {
      const auto from = tensor.values.begin() + head / (heads / kv_heads) * block;
      repeated.values.insert(repeated.values.end(), from, from + block);
    }
    return repeated;
  };
  for (int layer = 0; layer < config["num_hidden_layers"]; ++layer) {
    const std::string from = fmt::format("model.layers.{}.", layer);
    const std::string to = fmt::format("transformer.h.{}.", layer);
    for (const char* end : {".weight", ".bias"}) {
      Tensors parts = {{"q", qwen2.at(from + "self_attn.q_proj" + end)},
                       {"k", repeat_heads(qwen2.at(from + "self_attn.k_proj" + end))},
                       {"v", repeat_heads(qwen2.at(from + "self_attn.v_proj" + end))}};
      qwen1[to + "attn.c_attn" + end] = StackRows(parts, {"q", "k", "v"});
    }
    qwen1[to + "attn.c_proj.weight"] = qwen2.at(from + "self_attn.o_proj.weight");
    qwen1[to + "ln_1.weight"] = qwen2.at(from + "input_layernorm.weight");
    qwen1[to + "ln_2.weight"] = qwen2.at(from + "post_attention_layernorm.weight");
    qwen1[to + "mlp.w1.weight"] = qwen2.at(from + "mlp.up_proj.weight");
    qwen1[to + "mlp.w2.weight"] = qwen2.at(from + "mlp.gate_proj.weight");
    qwen1[to + "mlp.c_proj.weight"] = qwen2.at(from + "mlp.down_proj.weight");
  }
  qwen1["transformer.wte.weight"] = qwen2.at("model.embed_tokens.weight");
  qwen1["transformer.ln_f.weight"] = qwen2.at("model.norm.weight");
  qwen1["lm_head.weight"] = qwen2.at("lm_head.weight");
  ExpectGoldenLogits("qwen2", config, qwen1);
}

// The first publications of GPT-2 and BLOOM are of the bare model, without a prefix.
TEST(PublishedLayouts, PrefixesMayBeMissing) {
  for (const std::string name : {"gpt2", "bloom"}) {
    Tensors bare;
    for (const auto& [key, tensor] : GoldenTensors(name)) {
      bare[key.starts_with("transformer.") ? key.substr(12) : key] = tensor;
    }
    ExpectGoldenLogits(name, ReadConfig(name), bare);
  }
}

// Baichuan 2, told by its vocabulary, divides the rows of its head by their lengths.
TEST(PublishedLayouts, Baichuan2NormalisesItsHead) {
  constexpr int kVocab = 125696, kHidden = 16;
  nlohmann::json config = {{"architectures", {"BaichuanForCausalLM"}},
                           {"vocab_size", kVocab},
                           {"hidden_size", kHidden},
                           {"num_hidden_layers", 1},
                           {"num_attention_heads", 1},
                           {"intermediate_size", 32},
                           {"max_position_embeddings", 64},
                           {"rms_norm_eps", 1e-6}};
  uint32_t state = 7;
  const auto random = [&](Shape shape) {
    Tensor tensor{shape, std::vector<float>(static_cast<size_t>(shape.num_elements()))};
    for (float& value : tensor.values) {
      state = state * 1664525u + 1013904223u;
      value = static_cast<float>(state >> 8) * 0x1p-23f - 1.0f;
    }
    return tensor;
  };
  const std::string layer = "model.layers.0.";
  Tensors tensors = {{"model.embed_tokens.weight", random({kVocab, kHidden})},
                     {layer + "input_layernorm.weight", random({kHidden})},
                     {layer + "post_attention_layernorm.weight", random({kHidden})},
                     {layer + "self_attn.W_pack.weight", random({3 * kHidden, kHidden})},
                     {layer + "self_attn.o_proj.weight", random({kHidden, kHidden})},
                     {layer + "mlp.gate_proj.weight", random({32, kHidden})},
                     {layer + "mlp.up_proj.weight", random({32, kHidden})},
                     {layer + "mlp.down_proj.weight", random({kHidden, 32})},
                     {"model.norm.weight", random({kHidden})},
                     {"lm_head.weight", random({kVocab, kHidden})}};
  TestFolder folder("baichuan2");
  WriteFolder(folder / "baichuan2", config, tensors);
  const auto logits = ContextLogits(folder, folder / "baichuan2", {{11, 12, 13}});

  // The same as a Baichuan 1, which keeps its head: one more token makes the vocabulary differ.
  for (const char* name : {"model.embed_tokens.weight", "lm_head.weight"}) {
    Tensor& table = tensors[name];
    if (name[0] == 'l') {
      for (int row = 0; row < kVocab; ++row) {
        float* values = table.values.data() + int64_t{row} * kHidden;
        double squares = 0;
        for (int i = 0; i < kHidden; ++i) squares += double{values[i]} * values[i];
        for (int i = 0; i < kHidden; ++i) {
          values[i] = static_cast<float>(values[i] / std::sqrt(squares));
        }
      }
    }
    table.shape[0] = kVocab + 1;
    table.values.resize(table.values.size() + kHidden);
  }
  config["vocab_size"] = kVocab + 1;
  WriteFolder(folder / "baichuan1", config, tensors);
  const auto normed = ContextLogits(folder, folder / "baichuan1", {{11, 12, 13}});
  ASSERT_EQ(logits.size(), 1u);
  ASSERT_EQ(normed.size(), 1u);
  for (int row = 0; row < 3; ++row) {
    for (int v = 0; v < kVocab; ++v) {
      ASSERT_NEAR(logits[0][int64_t{row} * kVocab + v], normed[0][int64_t{row} * (kVocab + 1) + v],
                  1e-5)
          << "row " << row << " token " << v;
    }
  }
}

StatusOr<models::FamilyConfig> FamilyOf(const nlohmann::json& config) {
  TRIREME_ASSIGN_OR_RETURN(const HfConfig hf, HfConfig::Parse(config.dump(), "config.json"));
  return models::ReadHfConfig(hf);
}

// The 13B Baichuans have no positions to embed; their attention is biased instead.
TEST(PublishedLayouts, Baichuan13bUsesAlibi) {
  nlohmann::json config = {{"architectures", {"BaichuanForCausalLM"}},
                           {"vocab_size", 64000},
                           {"hidden_size", 5120},
                           {"num_hidden_layers", 2},
                           {"num_attention_heads", 40},
                           {"intermediate_size", 13696},
                           {"model_max_length", 4096},
                           {"rms_norm_eps", 1e-6}};
  for (const bool rotary : {false, true}) {
    if (rotary) config["max_position_embeddings"] = 4096;
    const auto family = FamilyOf(config);
    ASSERT_TRUE(family.ok()) << family.status().ToString();
    EXPECT_EQ(family->config.max_position_embeddings, 4096);
    const StatusOr<Network> network = family->family->BuildNetwork(family->config);
    ASSERT_TRUE(network.ok()) << network.status().ToString();
    int layers = 0;
    for (const NetworkOp& op : network->ops()) {
      if (op.kind != OpKind::kAttention) continue;
      ++layers;
      const AttentionSpec& spec = std::get<AttentionAttrs>(op.attrs).spec;
      EXPECT_EQ(spec.alibi, !rotary);
      EXPECT_EQ(spec.rotary.kind, rotary ? RotaryKind::kNeox : RotaryKind::kNone);
    }
    EXPECT_EQ(layers, 2);
  }
}

TEST(PublishedLayouts, ChatGlmVersionsStretchPositionsOrRaiseTheBase) {
  nlohmann::json config = ReadConfig("chatglm3");
  config["rope_ratio"] = 50;
  config["_name_or_path"] = "THUDM/chatglm3-6b-128k";
  const auto third = FamilyOf(config);
  ASSERT_TRUE(third.ok()) << third.status().ToString();
  EXPECT_EQ(third->config.rotary_base, 500000.0);
  EXPECT_EQ(third->config.rotary_scaling.type, "none");
  config["_name_or_path"] = "THUDM/chatglm2-6b-32k";
  const auto second = FamilyOf(config);
  ASSERT_TRUE(second.ok()) << second.status().ToString();
  EXPECT_EQ(second->config.rotary_base, 10000.0);
  EXPECT_EQ(second->config.rotary_scaling.type, "linear");
  EXPECT_EQ(second->config.rotary_scaling.factor, 50.0);
}

// What a family cannot compute is refused with its reason, not computed wrongly.
TEST(PublishedLayouts, VariantsThatDifferAreRefused) {
  const auto refusal = [](const std::string& name, const std::string& key, nlohmann::json value) {
    nlohmann::json config = ReadConfig(name);
    config[key] = std::move(value);
    const auto family = FamilyOf(config);
    return family.ok() ? std::string() : family.status().ToString();
  };
  const auto expect = [](const std::string& message, const char* part) {
    EXPECT_NE(message.find(part), std::string::npos) << message;
  };
  expect(refusal("chatglm3", "position_encoding_2d", true), "first ChatGLM");
  expect(refusal("chatglm3", "multi_query_group_num", 3), "multi_query_group_num");
  expect(refusal("chatglm3", "rmsnorm", false), "rmsnorm");
  expect(refusal("bloom", "apply_residual_connection_post_layernorm", true), "post_layernorm");
  expect(refusal("gpt2", "scale_attn_by_inverse_layer_idx", true), "scale_attn");
  expect(refusal("gptj", "rotary_dim", 7), "rotary_dim");
  expect(refusal("gptj", "rotary_dim", 1000), "rotary_dim");
  expect(refusal("gemma2", "attn_logit_softcapping", -1), "attn_logit_softcapping");
  expect(refusal("gemma2", "layer_types", {"sliding_attention"}), "layer_types");
  expect(refusal("mistral-swa", "sliding_window", -5), "sliding_window");
}

}  // namespace
}  // namespace trireme
