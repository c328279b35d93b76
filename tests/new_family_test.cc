// SPDX-License-Identifier: Apache-2.0
// A model family defined outside src/models, in this one file, through convert, build and run: a
// decoder with layer norms, learned positions, a plain GELU MLP and attention without rotation.
#include <gtest/gtest.h>

#include <filesystem>
#include <random>

#include "base/mapped_file.h"
#include "base/status.h"
#include "convert/convert.h"
#include "formats/safetensors.h"
#include "trireme/builder.h"
#include "trireme/executor.h"
#include "trireme/model_family.h"

namespace trireme {
namespace {

namespace fs = std::filesystem;

constexpr int kWidth = 32, kHeads = 2, kLayers = 2, kVocab = 96, kInner = 48, kPositions = 64;

class TinyFamily : public ModelFamily {
 public:
  std::vector<std::string> HfArchitectures() const override { return {"TinyTestForCausalLM"}; }
  bool Matches(const ModelConfig& config) const override {
    return config.architecture == "TinyTestForCausalLM";
  }

  StatusOr<ModelConfig> ConfigFromHf(const HfConfigView& hf) const override {
    ModelConfig config;
    config.architecture = "TinyTestForCausalLM";
    TRIREME_ASSIGN_OR_RETURN(const std::optional<int64_t> width, hf.Int({"width"}));
    if (!width) return InvalidArgument("config.json has no 'width'");
    config.hidden_size = static_cast<int>(*width);
    config.vocab_size = kVocab;
    config.num_hidden_layers = kLayers;
    config.num_attention_heads = config.num_key_value_heads = kHeads;
    config.head_size = config.hidden_size / kHeads;
    config.intermediate_size = kInner;
    config.max_position_embeddings = kPositions;
    config.position_embedding_type = "learned_absolute";
    return config;
  }

  StatusOr<std::vector<TensorRule>> TensorRules(const ModelConfig& config) const override {
    std::vector<TensorRule> rules = {
        {.name = "transformer.vocab_embedding.weight",
         .sources = {"wte"},
         .split = TensorSplit::kEmbedding},
        {.name = "transformer.position_embedding.weight", .sources = {"wpe"}}};
    for (int layer = 0; layer < config.num_hidden_layers; ++layer) {
      const std::string to = fmt::format("transformer.layers.{}.", layer);
      const std::string from = fmt::format("h.{}.", layer);
      const auto add = [&](const std::string& name, const std::string& source, bool linear) {
        rules.push_back({.name = to + name,
                         .sources = {from + source},
                         .transpose = linear,  // published as [in, out]
                         .quantizable = linear,
                         .layer = layer});
      };
      add("input_layernorm.weight", "ln.w", false);
      add("input_layernorm.bias", "ln.b", false);
      add("attention.qkv.weight", "qkv", true);
      add("attention.dense.weight", "out", true);
      add("mlp.fc.weight", "up", true);
      add("mlp.proj.weight", "down", true);
    }
    rules.push_back(
        {.name = "lm_head.weight", .sources = {"wte"}, .split = TensorSplit::kVocabRows});
    return rules;
  }

  StatusOr<Network> BuildNetwork(const ModelConfig& config) const override {
    Network net;
    Value x = net.PositionEmbedding(net.Embedding({.name = "transformer.vocab_embedding",
                                                   .vocab_size = kVocab,
                                                   .width = config.hidden_size}),
                                    "transformer.position_embedding", kPositions);
    for (int layer = 0; layer < kLayers; ++layer) {
      const std::string prefix = fmt::format("transformer.layers.{}.", layer);
      const Value normed = net.LayerNorm(x, {.name = prefix + "input_layernorm"});
      const Value qkv = net.Linear(
          normed, {.name = prefix + "attention.qkv", .out_features = 3 * config.hidden_size});
      const Value context = net.Attention(qkv, {.name = prefix + "attention",
                                                .layer = layer,
                                                .num_heads = kHeads,
                                                .num_kv_heads = kHeads,
                                                .head_dim = config.head_size});
      const Value attended = net.Linear(
          context, {.name = prefix + "attention.dense", .out_features = config.hidden_size});
      // Parallel residual, as some families have it: both branches read one norm.
      const Value inner =
          net.Activation(net.Linear(normed, {.name = prefix + "mlp.fc", .out_features = kInner}),
                         ActivationKind::kGeluTanh);
      const Value mlp =
          net.Linear(inner, {.name = prefix + "mlp.proj", .out_features = config.hidden_size});
      x = net.Add(x, net.Add(attended, mlp));
    }
    net.SetLogits(net.Linear(net.SelectLogitRows(x), {.name = "lm_head", .out_features = kVocab}));
    TRIREME_RETURN_IF_ERROR(net.Validate());
    return net;
  }
};

using Tensors = std::map<std::string, std::pair<Shape, std::vector<float>>>;

Tensors RandomTensors() {
  std::mt19937 random(5);
  std::normal_distribution<float> normal(0.0f, 0.3f);
  Tensors tensors;
  const auto add = [&](const std::string& name, Shape shape) {
    std::vector<float> values(static_cast<size_t>(shape.num_elements()));
    for (float& value : values) value = normal(random);
    tensors[name] = {shape, std::move(values)};
  };
  add("wte", {kVocab, kWidth});
  add("wpe", {kPositions, kWidth});
  for (int layer = 0; layer < kLayers; ++layer) {
    const std::string prefix = fmt::format("h.{}.", layer);
    add(prefix + "ln.w", {kWidth});
    add(prefix + "ln.b", {kWidth});
    add(prefix + "qkv", {kWidth, 3 * kWidth});
    add(prefix + "out", {kWidth, kWidth});
    add(prefix + "up", {kWidth, kInner});
    add(prefix + "down", {kInner, kWidth});
  }
  return tensors;
}

void WriteModel(const std::string& folder, const Tensors& tensors) {
  fs::create_directories(folder);
  ASSERT_TRUE(
      WriteFile(folder + "/config.json",
                R"({"architectures": ["TinyTestForCausalLM"], "width": 32, "dtype": "float32"})")
          .ok());
  std::vector<SafetensorsWriter::Entry> entries;
  for (const auto& [name, tensor] : tensors)
    entries.push_back({name, DType::kFloat32, tensor.first});
  auto writer = SafetensorsWriter::Create(folder + "/model.safetensors", entries, {}).value();
  for (const auto& [name, tensor] : tensors) {
    ASSERT_TRUE(writer->Write(name, std::as_bytes(std::span(tensor.second))).ok());
  }
  ASSERT_TRUE(writer->Finish().ok());
}

// y[r] = x[r] W for W [in, out].
std::vector<double> MatMul(const std::vector<double>& x, const std::vector<float>& w, int in,
                           int out) {
  const size_t rows = x.size() / static_cast<size_t>(in);
  std::vector<double> y(rows * static_cast<size_t>(out), 0.0);
  for (size_t r = 0; r < rows; ++r) {
    for (int i = 0; i < in; ++i) {
      for (int o = 0; o < out; ++o)
        y[r * out + o] += x[r * in + i] * w[static_cast<size_t>(i) * out + o];
    }
  }
  return y;
}

// The family's meaning in plain float64: logits of the last token.
std::vector<double> ReferenceLogits(const Tensors& t, const std::vector<TokenId>& ids) {
  const size_t n = ids.size();
  const int dim = kWidth / kHeads;
  std::vector<double> x(n * kWidth);
  for (size_t r = 0; r < n; ++r) {
    for (int i = 0; i < kWidth; ++i) {
      x[r * kWidth + i] =
          t.at("wte").second[ids[r] * kWidth + i] + t.at("wpe").second[r * kWidth + i];
    }
  }
  for (int layer = 0; layer < kLayers; ++layer) {
    const std::string prefix = fmt::format("h.{}.", layer);
    std::vector<double> normed(x.size());
    for (size_t r = 0; r < n; ++r) {
      double mean = 0, variance = 0;
      for (int i = 0; i < kWidth; ++i) mean += x[r * kWidth + i] / kWidth;
      for (int i = 0; i < kWidth; ++i) variance += std::pow(x[r * kWidth + i] - mean, 2) / kWidth;
      for (int i = 0; i < kWidth; ++i) {
        normed[r * kWidth + i] = (x[r * kWidth + i] - mean) / std::sqrt(variance + 1e-5) *
                                     t.at(prefix + "ln.w").second[i] +
                                 t.at(prefix + "ln.b").second[i];
      }
    }
    const std::vector<double> qkv = MatMul(normed, t.at(prefix + "qkv").second, kWidth, 3 * kWidth);
    std::vector<double> context(x.size(), 0.0);
    for (int head = 0; head < kHeads; ++head) {
      for (size_t r = 0; r < n; ++r) {
        std::vector<double> weights(r + 1);
        double total = 0;
        for (size_t c = 0; c <= r; ++c) {
          double dot = 0;
          for (int i = 0; i < dim; ++i) {
            dot += qkv[r * 3 * kWidth + head * dim + i] *
                   qkv[c * 3 * kWidth + kWidth + head * dim + i];
          }
          total += weights[c] = std::exp(dot / std::sqrt(static_cast<double>(dim)));
        }
        for (size_t c = 0; c <= r; ++c) {
          for (int i = 0; i < dim; ++i) {
            context[r * kWidth + head * dim + i] +=
                weights[c] / total * qkv[c * 3 * kWidth + 2 * kWidth + head * dim + i];
          }
        }
      }
    }
    const std::vector<double> attended =
        MatMul(context, t.at(prefix + "out").second, kWidth, kWidth);
    std::vector<double> inner = MatMul(normed, t.at(prefix + "up").second, kWidth, kInner);
    for (double& v : inner)
      v = v / 2 * (1 + std::tanh(std::sqrt(2 / M_PI) * (v + 0.044715 * v * v * v)));
    const std::vector<double> mlp = MatMul(inner, t.at(prefix + "down").second, kInner, kWidth);
    for (size_t i = 0; i < x.size(); ++i) x[i] += attended[i] + mlp[i];
  }
  std::vector<double> logits(kVocab, 0.0);
  for (int token = 0; token < kVocab; ++token) {
    for (int i = 0; i < kWidth; ++i) {
      logits[token] +=
          x[(n - 1) * kWidth + i] * t.at("wte").second[static_cast<size_t>(token) * kWidth + i];
    }
  }
  return logits;
}

TEST(NewFamilyTest, ConvertsBuildsAndRuns) {
  RegisterModelFamily(std::make_unique<TinyFamily>());
  const fs::path folder = fs::temp_directory_path() / fmt::format("trireme_family_{}", ::getpid());
  const Tensors tensors = RandomTensors();
  WriteModel(folder / "hf", tensors);
  Status status =
      convert::Convert({.model_dir = folder / "hf", .output_dir = folder / "checkpoint"}, {});
  ASSERT_TRUE(status.ok()) << status.ToString();
  BuildOptions options;
  options.checkpoint_dir = folder / "checkpoint";
  options.output_dir = folder / "engine";
  options.time_tactics = false;
  status = BuildEngine(options, {});
  ASSERT_TRUE(status.ok()) << status.ToString();

  auto executor = Executor::Create(folder / "engine", {});
  ASSERT_TRUE(executor.ok()) << executor.status().ToString();
  Request request;
  request.prompt = {3, 14, 15, 92, 65, 35};
  request.max_tokens = 8;
  request.output.return_generation_logits = true;
  const RequestId id = (*executor)->Enqueue(request).value();
  std::vector<float> logits;
  std::vector<TokenId> tokens;
  for (bool final = false; !final;) {
    for (const Response& response : (*executor)->AwaitResponses(id)) {
      ASSERT_TRUE(response.error.ok()) << response.error.ToString();
      logits.insert(logits.end(), response.generation_logits.begin(),
                    response.generation_logits.end());
      tokens.insert(tokens.end(), response.tokens.begin(), response.tokens.end());
      final = response.is_final;
    }
  }
  ASSERT_EQ(tokens.size(), 8u);
  ASSERT_EQ(logits.size(), 8u * kVocab);
  std::vector<TokenId> text = request.prompt;
  for (size_t step = 0; step < tokens.size(); ++step) {
    const std::vector<double> want = ReferenceLogits(tensors, text);
    for (int token = 0; token < kVocab; ++token) {
      EXPECT_NEAR(logits[step * kVocab + token], want[token], 2e-4 * (1 + std::fabs(want[token])))
          << "step " << step << " token " << token;
    }
    text.push_back(tokens[step]);
  }
  fs::remove_all(folder);
}

}  // namespace
}  // namespace trireme
