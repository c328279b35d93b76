// SPDX-License-Identifier: Apache-2.0
// Golden checkpoints through convert, build and run, against the reference framework's logits and
// greedy tokens, in every dtype; and weight-only engines against float32 on the dequantized weights.
#include "golden_testing.h"

#include "formats/checkpoint.h"
#include "quantize/weight_only.h"

namespace trireme {
namespace {

class GoldenTest : public testing::TestWithParam<std::tuple<std::string, std::string>> {};

TEST_P(GoldenTest, LogitsAndGreedyTokens) {
  const auto& [name, dtype] = GetParam();
  const GoldenCase golden = LoadGolden(name, dtype);
  ASSERT_EQ(golden.prompts.size(), 4u);
  TestFolder folder(name + dtype);
  convert::ConvertOptions convert_options;
  convert_options.dtype = dtype;
  const Status status = ConvertAndBuild(GoldenDir(name), folder, convert_options, {});
  ASSERT_TRUE(status.ok()) << status.ToString();
  const RunResult run = RunEngine(folder / "engine", golden.prompts);
  ASSERT_EQ(run.tokens.size(), golden.prompts.size());
  if (dtype != "float32") return ExpectGolden(run, golden);
  EXPECT_LE(Compare(run.context_logits, golden.logits, golden.std).max, 1e-4);
  EXPECT_EQ(run.tokens, golden.greedy);
}

INSTANTIATE_TEST_SUITE_P(
    All, GoldenTest,
    testing::Combine(testing::Values("llama-gqa", "llama-mha-tied", "llama31-rope", "llama-headdim",
                                     "qwen2", "qwen2-tied", "llama-gqa-bin", "llama-gqa-sharded",
                                     "qwen3", "mistral-swa", "phi3", "glm4-hf", "chatglm3", "gpt2",
                                     "gptj", "bloom", "gemma2", "mixtral"),
                     testing::Values("float32", "bfloat16", "float16")),
    GoldenTestName);

struct QuantCase {
  std::string name;
  std::string precision;
  int group_size;
};

class WeightOnlyTest : public testing::TestWithParam<QuantCase> {};

// Rewrites a quantized checkpoint as the float32 one its integers stand for.
void WriteDequantized(const std::string& quantized, const std::string& target,
                      const WeightQuant& quant) {
  fs::create_directories(target);
  auto source = OpenSafetensors(RankFile(quantized, 0)).value();
  ModelConfig config = LoadCheckpointConfig(quantized).value();
  config.quantization.quant_algo.clear();
  config.dtype = "float32";
  config.kv_dtype = "float32";
  ASSERT_TRUE(WriteFile(target + "/config.json", CheckpointConfigJson(config)).ok());
  std::vector<SafetensorsWriter::Entry> entries;
  std::map<std::string, std::vector<float>> values;
  const std::string suffix = quant.group_size == 0 ? "per_channel_scale" : "weights_scaling_factor";
  for (const std::string& name : source->Names()) {
    if (name.ends_with(suffix)) continue;
    const TensorView view = source->Get(name).value();
    Shape shape = view.shape;
    const std::string scale = name.substr(0, name.rfind('.') + 1) + suffix;
    if (name.ends_with(".weight") && source->Has(scale)) {
      int64_t& columns = shape[shape.rank() - 1];
      if (quant.kind == WeightQuant::Kind::kInt4) columns *= 2;
      // A stack of experts is one matrix of all their rows.
      TensorView rows = view;
      rows.shape = {shape.num_elements() / columns, view.shape[view.shape.rank() - 1]};
      values[name] = quantize::Dequantize(rows, source->Get(scale).value(), quant, columns).value();
    } else {
      values[name] = ToFloats(view);
    }
    entries.push_back({name, DType::kFloat32, shape});
  }
  auto writer = SafetensorsWriter::Create(RankFile(target, 0), entries, {}).value();
  for (const auto& [name, floats] : values) {
    ASSERT_TRUE(writer->Write(name, std::as_bytes(std::span(floats))).ok());
  }
  ASSERT_TRUE(writer->Finish().ok());
}

TEST_P(WeightOnlyTest, CloseToFloat32OnTheDequantizedWeights) {
  const QuantCase& param = GetParam();
  const GoldenCase golden = LoadGolden(param.name, "float32");
  TestFolder folder(param.name + param.precision + std::to_string(param.group_size));
  convert::ConvertOptions convert_options;
  convert_options.dtype = "float32";
  convert_options.weight_only_precision = param.precision;
  convert_options.group_size = param.group_size;
  Status status = ConvertAndBuild(GoldenDir(param.name), folder, convert_options, {});
  ASSERT_TRUE(status.ok()) << status.ToString();
  const RunResult quantized = RunEngine(folder / "engine", golden.prompts);

  const WeightQuant quant{
      param.precision == "int8" ? WeightQuant::Kind::kInt8 : WeightQuant::Kind::kInt4,
      param.group_size};
  WriteDequantized(folder / "checkpoint", folder / "dequantized", quant);
  BuildOptions build_options;
  build_options.checkpoint_dir = folder / "dequantized";
  build_options.output_dir = folder / "exact";
  build_options.time_tactics = false;
  status = BuildEngine(build_options, {});
  ASSERT_TRUE(status.ok()) << status.ToString();
  const RunResult exact = RunEngine(folder / "exact", golden.prompts);
  const LogitError error = Compare(quantized.context_logits, exact.context_logits, golden.std);
  RecordProperty("rms", std::to_string(error.rms));
  EXPECT_LE(error.rms, 1e-2);
}

INSTANTIATE_TEST_SUITE_P(
    All, WeightOnlyTest,
    testing::Values(QuantCase{"llama-gqa", "int8", 0}, QuantCase{"llama-gqa", "int4", 0},
                    QuantCase{"llama-gqa", "int4", 128}, QuantCase{"llama-gqa", "int4", 32},
                    QuantCase{"qwen2", "int8", 0}, QuantCase{"qwen2", "int4", 128},
                    QuantCase{"qwen3", "int8", 0}, QuantCase{"mistral-swa", "int4", 32},
                    QuantCase{"phi3", "int4", 32}, QuantCase{"glm4-hf", "int8", 0},
                    QuantCase{"chatglm3", "int8", 0}, QuantCase{"gpt2", "int8", 0},
                    QuantCase{"gptj", "int4", 32}, QuantCase{"bloom", "int8", 0},
                    QuantCase{"gemma2", "int4", 32}, QuantCase{"mixtral", "int8", 0},
                    QuantCase{"mixtral", "int4", 32}),
    [](const auto& info) {
      std::string name = info.param.name + "_" + info.param.precision + "_g" +
                         std::to_string(info.param.group_size);
      std::replace(name.begin(), name.end(), '-', '_');
      return name;
    });

// The passes keep the meaning: the network as written against the network after its passes.
TEST(PassesTest, SameLogitsWithAndWithout) {
  for (const std::string name :
       {"llama-gqa", "qwen2", "qwen3", "gptj", "bloom", "gpt2", "gemma2", "mixtral"}) {
    const GoldenCase golden = LoadGolden(name, "float32");
    std::vector<std::vector<std::vector<float>>> logits;
    for (bool run_passes : {false, true}) {
      TestFolder folder(name + (run_passes ? "passes" : "plain"));
      convert::ConvertOptions convert_options;
      convert_options.dtype = "float32";
      BuildOptions build_options;
      build_options.run_passes = run_passes;
      const Status status =
          ConvertAndBuild(GoldenDir(name), folder, convert_options, build_options);
      ASSERT_TRUE(status.ok()) << status.ToString();
      ExecutorConfig config;
      config.reference_backend = !run_passes;
      logits.push_back(RunEngine(folder / "engine", golden.prompts, config).context_logits);
    }
    EXPECT_LE(Compare(logits[0], logits[1], golden.std).max, 1e-5);
  }
}

// Any engine dtype builds from any checkpoint dtype.
TEST(BuildTest, EngineDTypeIsFree) {
  const GoldenCase golden = LoadGolden("llama-gqa", "bfloat16");
  for (const std::string from : {"bfloat16", "float16"}) {
    for (const std::string to : {"float32", "float16", "bfloat16"}) {
      TestFolder folder("dtype_" + from + to);
      convert::ConvertOptions convert_options;
      convert_options.dtype = from;
      BuildOptions build_options;
      build_options.dtype = to;
      const Status status =
          ConvertAndBuild(GoldenDir("llama-gqa"), folder, convert_options, build_options);
      ASSERT_TRUE(status.ok()) << status.ToString();
      const RunResult run = RunEngine(folder / "engine", golden.prompts);
      EXPECT_LE(Compare(run.context_logits, golden.logits, golden.std).rms,
                1.25 * golden.rms_error);
    }
  }
}

// Every layer of this model sees 24 tokens: a pool that holds the window and one step serves prompts of
// several windows with the golden logits, and a sequence of ten windows.
TEST(SlidingWindowTest, ASmallPoolServesLongSequences) {
  GoldenCase golden = LoadGolden("mistral-swa", "float32");
  TestFolder folder("window");
  convert::ConvertOptions convert_options;
  convert_options.dtype = "float32";
  BuildOptions build_options;
  build_options.limits.tokens_per_block = 8;
  build_options.limits.max_num_tokens = 16;
  const Status status =
      ConvertAndBuild(GoldenDir("mistral-swa"), folder, convert_options, build_options);
  ASSERT_TRUE(status.ok()) << status.ToString();
  ExecutorConfig config;
  config.kv_cache.max_tokens =
      8 * 9;  // blocks of 24 + 16 tokens, begun anywhere, and 24 remembered
  const RunResult run = RunEngine(folder / "engine", golden.prompts, config);
  EXPECT_LE(Compare(run.context_logits, golden.logits, golden.std).max, 1e-4);
  EXPECT_EQ(run.tokens, golden.greedy);
  const std::vector<TokenId> ten_windows(240 - kNewTokens, 7);
  const RunResult longest = RunEngine(folder / "engine", {ten_windows}, config);
  EXPECT_EQ(longest.tokens[0].size(), static_cast<size_t>(kNewTokens));
}

// A program without models, graph and compile runs engines of every dtype and family.
TEST(RuntimeOnlyTest, RunsEveryEngine) {
  for (const std::string name : {"llama-gqa", "qwen2", "bloom", "gemma2", "mixtral"}) {
    for (const std::string precision : {"", "int8", "int4"}) {
      TestFolder folder("runtime" + name + precision);
      convert::ConvertOptions convert_options;
      convert_options.weight_only_precision = precision;
      const Status status = ConvertAndBuild(GoldenDir(name), folder, convert_options, {});
      ASSERT_TRUE(status.ok()) << status.ToString();
      const std::string command =
          fmt::format("{} '{}' 2>/dev/null", TRIREME_RUNTIME_ONLY, folder / "engine");
      FILE* pipe = ::popen(command.c_str(), "r");
      ASSERT_NE(pipe, nullptr);
      std::vector<TokenId> tokens;
      for (int token = 0; std::fscanf(pipe, "%d", &token) == 1;) tokens.push_back(token);
      EXPECT_EQ(::pclose(pipe), 0);
      const RunResult run = RunEngine(folder / "engine", {{1, 2, 3}});
      EXPECT_EQ(tokens, std::vector<TokenId>(run.tokens[0].begin(), run.tokens[0].begin() + 8));
    }
  }
}

// Every tactic of every problem can be forced, and gives the golden logits.
TEST(ForcedTacticTest, EachKernelGivesTheGoldenLogits) {
  const GoldenCase golden = LoadGolden("llama-gqa", "bfloat16");
  int built = 0;
  for (const std::string kernel : {"generic", "avx2", "avx512"}) {
    for (const std::string width : {"n16", "n32", "n64"}) {
      TestFolder folder("forced" + kernel + width);
      convert::ConvertOptions convert_options;
      BuildOptions build_options;
      build_options.force_tactic = fmt::format("{}_bf16_{}", kernel, width);
      const Status status =
          ConvertAndBuild(GoldenDir("llama-gqa"), folder, convert_options, build_options);
      if (!status.ok()) {
        EXPECT_NE(status.message().find("no tactic called"), std::string_view::npos);
        continue;
      }
      ++built;
      const RunResult run = RunEngine(folder / "engine", golden.prompts);
      EXPECT_LE(Compare(run.context_logits, golden.logits, golden.std).rms, 1.25 * golden.rms_error)
          << build_options.force_tactic;
    }
  }
  EXPECT_GE(built, 2);
}

}  // namespace
}  // namespace trireme
