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

}  // namespace
}  // namespace trireme
