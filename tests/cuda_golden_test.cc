// SPDX-License-Identifier: Apache-2.0
// Golden checkpoints on the GPU: the rule of golden_test.cc, and what must not change a bit. Needs a
// GPU and the repository's root as the working directory; ctest does not know it.
#include "golden_testing.h"

namespace trireme {
namespace {

Status BuildForGpu(const std::string& name, const std::string& dtype, const TestFolder& folder) {
  convert::ConvertOptions convert_options;
  convert_options.dtype = dtype;
  BuildOptions build_options;
  build_options.device = "cuda";
  return ConvertAndBuild(GoldenDir(name), folder, convert_options, build_options);
}

class CudaGoldenTest : public testing::TestWithParam<std::tuple<std::string, std::string>> {};

TEST_P(CudaGoldenTest, LogitsAndGreedyTokens) {
  const auto& [name, dtype] = GetParam();
  const GoldenCase golden = LoadGolden(name, dtype);
  ASSERT_EQ(golden.prompts.size(), 4u);
  TestFolder folder(name + dtype);
  const Status status = BuildForGpu(name, dtype, folder);
  ASSERT_TRUE(status.ok()) << status.ToString();
  const RunResult run = RunEngine(folder / "engine", golden.prompts);
  ASSERT_EQ(run.tokens.size(), golden.prompts.size());
  ExpectGolden(run, golden);
}

INSTANTIATE_TEST_SUITE_P(
    All, CudaGoldenTest,
    testing::Combine(testing::Values("llama-gqa", "llama-mha-tied", "llama31-rope", "llama-headdim",
                                     "qwen2", "qwen2-tied", "qwen3", "mistral-swa", "phi3",
                                     "glm4-hf", "chatglm3", "gpt2", "gptj", "bloom", "gemma2"),
                     testing::Values("bfloat16", "float16")),
    GoldenTestName);

// Graphs replay the launches that are submitted without them; a step submitted early reads the same
// tokens on the device.
TEST(CudaEqualityTest, GraphsAndOverlapDoNotChangeABit) {
  const GoldenCase golden = LoadGolden("llama-gqa", "bfloat16");
  TestFolder folder("equality");
  const Status status = BuildForGpu("llama-gqa", "bfloat16", folder);
  ASSERT_TRUE(status.ok()) << status.ToString();
  const RunResult want = RunEngine(folder / "engine", golden.prompts);
  ASSERT_EQ(want.tokens.size(), golden.prompts.size());
  for (const bool graphs : {true, false}) {
    for (const bool overlap : {true, false}) {
      ExecutorConfig config;
      config.cuda_graphs = graphs;
      config.overlap_steps = overlap;
      const RunResult got = RunEngine(folder / "engine", golden.prompts, config);
      EXPECT_EQ(got.tokens, want.tokens) << "graphs " << graphs << " overlap " << overlap;
      EXPECT_EQ(got.generation_logits, want.generation_logits);
      EXPECT_EQ(got.context_logits, want.context_logits);
    }
  }
}

// Alone, beside others, or in chunks: with --batch_invariant a sequence has the same bits, on every
// path that a step can take.
class CudaBatchInvariantTest : public testing::TestWithParam<const char*> {};

TEST_P(CudaBatchInvariantTest, AloneBatchedAndChunked) {
  const GoldenCase golden = LoadGolden(GetParam(), "bfloat16");
  TestFolder folder(std::string("invariant") + GetParam());
  convert::ConvertOptions convert_options;
  convert_options.dtype = "bfloat16";
  BuildOptions build_options;
  build_options.device = "cuda";
  build_options.batch_invariant = true;
  build_options.limits.max_num_tokens = 512;
  const Status status =
      ConvertAndBuild(GoldenDir(GetParam()), folder, convert_options, build_options);
  ASSERT_TRUE(status.ok()) << status.ToString();
  std::vector<std::vector<TokenId>> prompts = golden.prompts;
  // One of several key tiles, and of more rows of logits than a session computes at once.
  std::vector<TokenId>& long_prompt = prompts.emplace_back();
  while (long_prompt.size() < 90) {
    const std::vector<TokenId>& next = golden.prompts[long_prompt.size() % golden.prompts.size()];
    long_prompt.insert(long_prompt.end(), next.begin(), next.end());
  }
  long_prompt.resize(90);
  const RunResult want = RunEngine(folder / "engine", prompts);
  ASSERT_EQ(want.tokens.size(), prompts.size());
  for (const std::vector<float>& logits : want.context_logits) {
    for (const float logit : logits) ASSERT_TRUE(std::isfinite(logit));
  }
  const auto expect_same = [&](const RunResult& got, size_t at, const std::string& how) {
    for (size_t i = 0; i < got.tokens.size(); ++i) {
      EXPECT_EQ(got.tokens[i], want.tokens[at + i]) << how;
      EXPECT_EQ(got.context_logits[i], want.context_logits[at + i]) << how;
      EXPECT_EQ(got.generation_logits[i], want.generation_logits[at + i]) << how;
    }
  };
  for (size_t i = 0; i < prompts.size(); ++i) {
    expect_same(RunEngine(folder / "engine", {prompts[i]}), i, "alone");
  }
  for (const int max_num_tokens : {8, 13}) {
    ExecutorConfig config;
    config.max_batch_size = 4;
    config.max_num_tokens = max_num_tokens;
    expect_same(RunEngine(folder / "engine", prompts, config), 0,
                "in steps of " + std::to_string(max_num_tokens));
  }
}

INSTANTIATE_TEST_SUITE_P(All, CudaBatchInvariantTest,
                         testing::Values("llama-gqa", "qwen2", "mistral-swa", "gpt2"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace trireme
