// SPDX-License-Identifier: Apache-2.0
// Engines of real shapes, in every precision and with every kernel forced, against the reference
// kernels on the same engine file. The program fails when a kernel variant of this machine's
// instruction sets never ran.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "base/log.h"
#include "base/mapped_file.h"
#include "convert/convert.h"
#include "engine/engine_folder.h"
#include "engine_steps.h"
#include "every_op_family.h"
#include "formats/safetensors.h"
#include "kernels/every_variant_ran.h"
#include "kernels/kernels_testing.h"
#include "kernels/linear.h"
#include "trireme/builder.h"

namespace trireme {
namespace {

namespace fs = std::filesystem;
using kernels::TestRandom;

const ::testing::Environment* const g_every_variant_ran =
    ::testing::AddGlobalTestEnvironment(new kernels::EveryVariantRan);

constexpr int kVocab = 128'256;
constexpr int kHidden = 128;
constexpr int kInner = 256;
constexpr int kLayers = 2;
constexpr int kChunk = 512;
constexpr int kLinears = 4 * kLayers + 1;  // one after the other, from a token to its logits

struct Heads {
  int head_dim = 0;
  int num_heads = 0;
  int num_kv_heads = 0;
};
constexpr Heads kHeads[] = {{64, 2, 1}, {128, 2, 1}, {256, 1, 1}};

struct Precision {
  std::string name;
  std::string dtype;
  std::string weight_only;
};
const Precision kPrecisions[] = {{"float32", "float32", ""},
                                 {"bfloat16", "bfloat16", ""},
                                 {"float16", "float16", ""},
                                 {"int8", "bfloat16", "int8"},
                                 {"int4", "bfloat16", "int4"}};

class TestFolder {
 public:
  explicit TestFolder(const std::string& name)
      : path_(fs::temp_directory_path() / fmt::format("trireme_shapes_{}_{}", name, ::getpid())) {
    fs::create_directories(path_);
  }
  ~TestFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }

 private:
  fs::path path_;
};

// Weights of deviation gain / sqrt(inputs). Queries and keys are large enough that a few dozen of
// 5,000 keys carry the attention: an even average over all of them would hide a wrong one.
void WriteModel(const std::string& folder, const Heads& heads) {
  fs::create_directories(folder);
  const nlohmann::json config{{"architectures", {"LlamaForCausalLM"}},
                              {"model_type", "llama"},
                              {"torch_dtype", "bfloat16"},
                              {"vocab_size", kVocab},
                              {"hidden_size", kHidden},
                              {"intermediate_size", kInner},
                              {"num_hidden_layers", kLayers},
                              {"num_attention_heads", heads.num_heads},
                              {"num_key_value_heads", heads.num_kv_heads},
                              {"head_dim", heads.head_dim},
                              {"hidden_act", "silu"},
                              {"max_position_embeddings", 5120},
                              {"rms_norm_eps", 1e-5},
                              {"rope_theta", 500000.0},
                              {"tie_word_embeddings", false}};
  ASSERT_TRUE(WriteFile(folder + "/config.json", config.dump()).ok());
  const int64_t q = int64_t{heads.num_heads} * heads.head_dim;
  const int64_t kv = int64_t{heads.num_kv_heads} * heads.head_dim;
  std::map<std::string, std::pair<Shape, float>> tensors;  // shape, gain
  tensors["model.embed_tokens.weight"] = {{kVocab, kHidden}, std::sqrt(float{kHidden})};
  tensors["lm_head.weight"] = {{kVocab, kHidden}, 1.0f};
  tensors["model.norm.weight"] = {{kHidden}, 1.0f};
  for (int layer = 0; layer < kLayers; ++layer) {
    const std::string prefix = fmt::format("model.layers.{}.", layer);
    tensors[prefix + "self_attn.q_proj.weight"] = {{q, kHidden}, 1.5f};
    tensors[prefix + "self_attn.k_proj.weight"] = {{kv, kHidden}, 1.5f};
    tensors[prefix + "self_attn.v_proj.weight"] = {{kv, kHidden}, 1.0f};
    tensors[prefix + "self_attn.o_proj.weight"] = {{kHidden, q}, 1.0f};
    tensors[prefix + "mlp.gate_proj.weight"] = {{kInner, kHidden}, 1.0f};
    tensors[prefix + "mlp.up_proj.weight"] = {{kInner, kHidden}, 1.0f};
    tensors[prefix + "mlp.down_proj.weight"] = {{kHidden, kInner}, 1.0f};
    tensors[prefix + "input_layernorm.weight"] = {{kHidden}, 1.0f};
    tensors[prefix + "post_attention_layernorm.weight"] = {{kHidden}, 1.0f};
  }
  std::vector<SafetensorsWriter::Entry> entries;
  for (const auto& [name, spec] : tensors) entries.push_back({name, DType::kBFloat16, spec.first});
  auto writer = SafetensorsWriter::Create(folder + "/model.safetensors", entries, {}).value();
  TestRandom random(7);
  for (const auto& [name, spec] : tensors) {
    const auto& [shape, gain] = spec;
    std::vector<float> values(static_cast<size_t>(shape.num_elements()), gain);
    if (shape.rank() == 2) {
      const float deviation = gain / std::sqrt(static_cast<float>(shape[1]));
      for (float& value : values) value = deviation * random.Normal();
    }
    HostTensor tensor(DType::kBFloat16, shape);
    ConvertFloats(DType::kFloat32, reinterpret_cast<const std::byte*>(values.data()),
                  DType::kBFloat16, tensor.bytes().data(), shape.num_elements());
    ASSERT_TRUE(writer->Write(name, tensor.bytes()).ok());
  }
  ASSERT_TRUE(writer->Finish().ok());
}

// Checkpoints and engines of one model, each made once, as they are asked for.
class Model {
 public:
  explicit Model(const Heads& heads) : heads_(heads), folder_(fmt::format("hd{}", heads.head_dim)) {
    WriteModel(folder_ / "hf", heads);
  }

  const Heads& heads() const { return heads_; }

  // "" when a test has failed.
  std::string Engine(const Precision& precision, const std::string& force = "") {
    const std::string checkpoint = folder_ / precision.name;
    if (!fs::exists(checkpoint)) {
      const Status status =
          convert::Convert({.model_dir = folder_ / "hf",
                            .output_dir = checkpoint,
                            .dtype = precision.dtype,
                            .weight_only_precision = precision.weight_only,
                            .group_size = precision.weight_only == "int4" ? 128 : 0},
                           {});
      EXPECT_TRUE(status.ok()) << status.ToString();
    }
    BuildOptions options;
    options.checkpoint_dir = checkpoint;
    options.output_dir = folder_ / "engine";
    options.limits = {.max_batch_size = 6, .max_seq_len = 5120, .max_num_tokens = kChunk};
    options.num_threads = 2;
    options.time_tactics = false;
    options.force_tactic = force;
    const Status status = BuildEngine(options, {});
    EXPECT_TRUE(status.ok()) << force << ": " << status.ToString();
    return status.ok() ? options.output_dir : "";
  }

 private:
  Heads heads_;
  TestFolder folder_;
};

Model& ModelOf(const Heads& heads) {
  static std::map<int, std::unique_ptr<Model>> models;
  std::unique_ptr<Model>& model = models[heads.head_dim];
  if (model == nullptr) model = std::make_unique<Model>(heads);
  return *model;
}

std::vector<TokenId> Prompt(int length) {
  TestRandom random(static_cast<uint64_t>(length));
  std::vector<TokenId> tokens(static_cast<size_t>(length));
  for (TokenId& token : tokens) token = random.Below(kVocab);
  return tokens;
}

// Logits at the end of every chunk of every prompt, then of one token more of all together.
std::vector<float> RunSteps(const std::string& engine, const std::vector<int>& lengths,
                            const engine::SessionOptions& options) {
  std::vector<float> logits;
  EngineSteps steps(engine, options);
  if (!steps.ok()) return logits;
  for (size_t slot = 0; slot < lengths.size(); ++slot) {
    steps.Prefill(static_cast<int>(slot), Prompt(lengths[slot]), kChunk, logits);
  }
  steps.Decode(Prompt(static_cast<int>(lengths.size())), logits);
  return logits;
}

struct Error {
  double rms = 0;  // in units of the logits' deviation
  double max = 0;
};

Error Compare(const std::vector<float>& got, const std::vector<float>& want) {
  EXPECT_EQ(got.size(), want.size());
  EXPECT_FALSE(want.empty());
  if (got.size() != want.size() || want.empty()) return {1e9, 1e9};
  double sum = 0, squares = 0, differences = 0, max = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    sum += want[i];
    squares += double{want[i]} * want[i];
    const double difference = std::fabs(double{got[i]} - want[i]);
    if (!(difference < 1e9)) return {1e9, 1e9};  // NaN too
    differences += difference * difference;
    max = std::max(max, difference);
  }
  const double n = static_cast<double>(want.size());
  const double deviation = std::sqrt(squares / n - (sum / n) * (sum / n));
  return {std::sqrt(differences / n) / deviation, max / deviation};
}

// What a linear layer's rounding of x costs, in rms (the table of kernels/linear.h).
double LayerError(const std::string& numerics) {
  static const std::map<std::string, double> kErrors = {{"float32_fma", 1e-6},
                                                        {"float32_multiply_add", 1e-6},
                                                        {"bfloat16_dot", 1.7e-3},
                                                        {"int8_activations_g32", 5.4e-3},
                                                        {"int16_activations_g32", 4.2e-5}};
  return kErrors.at(numerics);
}

// Keys and values are rounded to the cache's dtype on both sides; where an error e moves one over a
// rounding boundary, with probability e / spacing, it moves by a whole spacing: sqrt(e * spacing).
double CacheError(const std::string& dtype, double e) {
  return dtype == "float32" ? 0.0 : std::sqrt(e * (dtype == "float16" ? 0x1p-10 : 0x1p-7));
}

// Layers' errors are independent: squares add up. A score is a product of two erroneous values and
// the softmax of scores of deviation 2 turns an error of theirs into twice that of the result.
double Tolerance(const std::string& numerics, const std::string& dtype) {
  constexpr double kAttentionGain = 2.0;
  const double e = LayerError(numerics);
  return kAttentionGain * (std::sqrt(double{kLinears}) * e + CacheError(dtype, e));
}

// The largest of some 10^6 errors, which are normal but not alike in every row.
constexpr double kMaxOverRms = 10.0;

// The numerics of an engine's linear layers, of which a precision's are all alike.
std::string NumericsOf(const std::string& engine) {
  const auto loaded = engine::OpenEngine(engine);
  EXPECT_TRUE(loaded.ok()) << loaded.status().ToString();
  std::set<std::string> numerics;
  if (loaded.ok()) {
    for (const plan::Launch& launch : loaded->plan.launches) {
      for (const plan::TacticChoice& tactic : launch.tactics) numerics.insert(tactic.numerics);
    }
  }
  // lm_head stays in the float dtype: the coarsest numerics bounds the whole.
  std::string worst = "float32_fma";
  for (const std::string& name : numerics) {
    if (LayerError(name) > LayerError(worst)) worst = name;
  }
  return worst;
}

void ExpectNearReference(const std::string& engine, const Precision& precision,
                         const std::vector<float>& got, const std::vector<float>& reference) {
  const Error error = Compare(got, reference);
  const double tolerance = Tolerance(NumericsOf(engine), precision.dtype);
  std::printf("  %-9s %-22s rms %.2e max %.2e tolerance %.2e\n", precision.name.c_str(),
              NumericsOf(engine).c_str(), error.rms, error.max, tolerance);
  EXPECT_LE(error.rms, tolerance);
  EXPECT_LE(error.max, kMaxOverRms * tolerance);
}

class RealShapesTest : public testing::TestWithParam<std::tuple<Heads, Precision>> {};

TEST_P(RealShapesTest, LogitsAgreeWithTheReferenceKernels) {
  SetLogLevel("warning").ok();
  const auto& [heads, precision] = GetParam();
  std::vector<int> lengths = {1, 63, 64, 65, 1000};
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  lengths.push_back(5000);  // the reference takes minutes under a sanitizer
#endif
  const std::string engine = ModelOf(heads).Engine(precision);
  ASSERT_FALSE(engine.empty());
  const std::vector<float> reference = RunSteps(engine, lengths, {.reference_backend = true});
  ExpectNearReference(engine, precision, RunSteps(engine, lengths, {}), reference);
}

std::string NameOf(const Heads& heads, const Precision& precision) {
  return fmt::format("head{}_{}", heads.head_dim, precision.name);
}

INSTANTIATE_TEST_SUITE_P(All, RealShapesTest,
                         testing::Combine(testing::ValuesIn(kHeads),
                                          testing::ValuesIn(kPrecisions)),
                         [](const auto& info) {
                           return NameOf(std::get<0>(info.param), std::get<1>(info.param));
                         });

class ForcedTacticTest : public testing::TestWithParam<Precision> {};

// Every kernel of every instruction set this machine has, forced on all layers it can run.
TEST_P(ForcedTacticTest, EveryKernelAgreesWithTheReferenceKernels) {
  SetLogLevel("warning").ok();
  const Precision& precision = GetParam();
  Model& model = ModelOf(kHeads[1]);
  kernels::LinearProblem problem;
  problem.out_features = problem.in_features = kHidden;
  problem.dtype = ParseDType(precision.dtype).value();
  if (precision.weight_only == "int8") problem.quant = {WeightQuant::Kind::kInt8, 0};
  if (precision.weight_only == "int4") problem.quant = {WeightQuant::Kind::kInt4, 128};
  const std::vector<int> lengths = {1, 63, 64, 65};
  std::vector<float> reference;  // of the weights' values: the same whatever the layout
  const auto tactics = kernels::AllLinearTactics(problem, HostCpuFeatures());
  EXPECT_GE(tactics.size(), 2 * kernels::HostIsas().size());
  for (const kernels::LinearTactic& tactic : tactics) {
    SCOPED_TRACE(tactic.kernel);
    // lm_head is never quantized: a kernel of the same instruction set for it.
    std::string force = tactic.kernel;
    if (!precision.weight_only.empty())
      force += "," + tactic.kernel.substr(0, tactic.kernel.find('_')) + "_bf16_n64";
    const std::string engine = model.Engine(precision, force);
    if (engine.empty()) continue;
    if (reference.empty()) reference = RunSteps(engine, lengths, {.reference_backend = true});
    ExpectNearReference(engine, precision, RunSteps(engine, lengths, {}), reference);
  }
}

INSTANTIATE_TEST_SUITE_P(All, ForcedTacticTest, testing::ValuesIn(kPrecisions),
                         [](const auto& info) { return info.param.name; });

struct Sampled {
  std::vector<float> logits;
  std::vector<TokenId> tokens;
};

// Three sequences, one of them long, sampled in three ways; then the long one alone, whose keys the
// threads share.
Sampled RunEveryOp(const std::string& engine, const engine::SessionOptions& options) {
  Sampled result;
  EngineSteps steps(engine, options);
  if (!steps.ok()) return result;
  const auto tokens = [](int length) {
    std::vector<TokenId> ids = Prompt(length);
    for (TokenId& id : ids) id %= 160;
    return ids;
  };
  const int lengths[] = {2100, 30, 1};
  for (int slot = 0; slot < 3; ++slot) {
    steps.Prefill(slot, tokens(lengths[slot]), kChunk, result.logits);
  }
  const SamplingParams ways[] = {{}, {.top_k = 5, .seed = 1}, {.top_p = 1.0f, .seed = 2}};
  for (int slot = 0; slot < 3; ++slot) {
    steps.session().ResetSlot(slot, {.sampling = ways[slot], .max_tokens = 9});
  }
  steps.Decode(tokens(3), result.logits);
  const int slots[] = {0, 1, 2};
  EXPECT_TRUE(steps.session().Sample(slots).ok());
  for (const engine::SampledToken& token : steps.session().Await().value()) {
    result.tokens.push_back(token.token);
  }
  steps.Decode(tokens(1), result.logits);
  return result;
}

// The kernels that Llama-shaped models do not reach, and all of them in every instruction set.
TEST(EveryOpTest, EveryInstructionSetAgreesWithTheReferenceKernels) {
  SetLogLevel("warning").ok();
  RegisterModelFamily(std::make_unique<EveryOpFamily>());
  const TestFolder folder("every_op");
  ASSERT_TRUE(
      WriteFile(folder / "config.json", R"({"architectures": ["EveryOpForCausalLM"]})").ok());
  for (const std::string dtype : {"float32", "float16", "bfloat16"}) {
    BuildOptions options;
    options.model_config = folder / "config.json";
    options.output_dir = folder / dtype;
    options.kv_dtype = dtype;
    options.dtype = "float32";
    options.limits = {.max_batch_size = 3, .max_seq_len = 2304, .max_num_tokens = kChunk};
    options.num_threads = 2;
    options.time_tactics = false;
    options.run_passes = false;  // fused ops are reached above
    const Status status = BuildEngine(options, {});
    ASSERT_TRUE(status.ok()) << status.ToString();
    const Sampled reference = RunEveryOp(options.output_dir, {.reference_backend = true});
    for (const Isa isa : kernels::HostIsas()) {
      const Sampled got = RunEveryOp(options.output_dir, {.max_isa = isa});
      const Error error = Compare(got.logits, reference.logits);
      std::printf("  %-9s %-8s rms %.2e max %.2e\n", dtype.c_str(), IsaName(isa).c_str(), error.rms,
                  error.max);
      EXPECT_LE(error.rms, Tolerance("float32_fma", dtype)) << dtype << " " << IsaName(isa);
      EXPECT_EQ(got.tokens, reference.tokens) << dtype << " " << IsaName(isa);
    }
  }
}

}  // namespace
}  // namespace trireme
