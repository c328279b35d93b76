// SPDX-License-Identifier: Apache-2.0
// LoRA adapters merged into their base: golden logits of the merged models, and what an adapter may
// hold beside low-rank pairs; and their files from one form into the other.
#include "convert/lora_merge.h"

#include <gmock/gmock.h>

#include <cstring>

#include "convert/lora_convert.h"
#include "formats/torch_bin.h"
#include "golden_testing.h"

namespace trireme {
namespace {

class LoraGoldenTest : public testing::TestWithParam<std::string> {};

TEST_P(LoraGoldenTest, MergedModelGivesTheGoldenLogits) {
  const std::string& name = GetParam();
  const GoldenCase golden = LoadGolden(name, "float32");
  ASSERT_FALSE(golden.prompts.empty());
  TestFolder folder("lora" + name);
  Status status = convert::MergeLora({.base_dir = GoldenDir(name.substr(0, name.rfind('-'))),
                                      .lora_dirs = {GoldenDir(name)},
                                      .dtype = "float32",
                                      .output_dir = folder / "merged"},
                                     {});
  ASSERT_TRUE(status.ok()) << status.ToString();
  convert::ConvertOptions options;
  options.dtype = "float32";
  status = ConvertAndBuild(folder / "merged", folder, options, {});
  ASSERT_TRUE(status.ok()) << status.ToString();
  const RunResult run = RunEngine(folder / "engine", golden.prompts);
  EXPECT_LE(Compare(run.context_logits, golden.logits, golden.std).max, 1e-4);
  EXPECT_EQ(run.tokens, golden.greedy);
}

INSTANTIATE_TEST_SUITE_P(All, LoraGoldenTest,
                         testing::Values("llama-gqa-lora0", "llama-gqa-lora1", "qwen2-lora0",
                                         "qwen2-lora1"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

// A base of one linear layer, an embedding and a buffer, and an adapter written by the test.
class LoraMergeTest : public testing::Test {
 protected:
  LoraMergeTest() : folder_("lora_merge") {
    WriteFolder(folder_ / "base", {{"vocab_size", 3}, {"torch_dtype", "float32"}},
                {{"model.embed_tokens.weight", {{3, 2}, {1, 2, 3, 4, 5, 6}}},
                 {"model.fc.weight", {{2, 3}, {1, 0, 0, 0, 1, 0}}}});
  }

  void WriteAdapter(const std::string& name, nlohmann::json config, const Tensors& tensors) {
    config["peft_type"] = "LORA";
    config["lora_alpha"] = 4;
    std::filesystem::create_directories(folder_ / name);
    ASSERT_TRUE(WriteFile((folder_ / name) + "/adapter_config.json", config.dump()).ok());
    WriteTensors((folder_ / name) + "/adapter_model.safetensors", tensors);
  }

  Status Merge(std::vector<std::string> adapters, double scale = 1.0) {
    for (std::string& adapter : adapters) adapter = folder_ / adapter;
    return convert::MergeLora({.base_dir = folder_ / "base",
                               .lora_dirs = std::move(adapters),
                               .scale = scale,
                               .output_dir = folder_ / "merged"},
                              {});
  }
  Tensors Merged() { return ReadTensors((folder_ / "merged") + "/model.safetensors"); }

  static Tensors Pair(const std::string& prefix = "base_model.model.model.fc.") {
    return {{prefix + "lora_A.weight", {{2, 3}, {1, 2, 3, 0, 0, 1}}},
            {prefix + "lora_B.weight", {{2, 2}, {1, 0, 2, 1}}}};
  }

  TestFolder folder_;
};

using ::testing::ElementsAre;

// B A = [1 2 3; 2 4 7], times alpha 4 over rank 2.
// Shapes do not tell a model from its relatives, names may.
TEST_F(LoraMergeTest, AnAdapterOfAnotherBaseIsSaid) {
  const auto warning = [&](const std::string& made_for) {
    WriteAdapter("named", {{"base_model_name_or_path", made_for}}, Pair());
    testing::internal::CaptureStderr();
    const Status merged = Merge({"named"});
    const std::string log = testing::internal::GetCapturedStderr();
    EXPECT_TRUE(merged.ok()) << merged.ToString();
    return log.find("lora_base_differs") != std::string::npos;
  };
  for (const char* same : {"", "org/base", "/elsewhere/Base/", "base"}) EXPECT_FALSE(warning(same));
  EXPECT_TRUE(warning("org/other"));
  EXPECT_TRUE(warning("org/base-chat"));
}

TEST_F(LoraMergeTest, AddsTheScaledProduct) {
  WriteAdapter("plain", {}, Pair());
  ASSERT_TRUE(Merge({"plain"}).ok());
  EXPECT_THAT(Merged()["model.fc.weight"].values, ElementsAre(3, 4, 6, 4, 9, 14));
  EXPECT_THAT(Merged()["model.embed_tokens.weight"].values, ElementsAre(1, 2, 3, 4, 5, 6));
  ASSERT_TRUE(Merge({"plain"}, 0.5).ok());
  EXPECT_THAT(Merged()["model.fc.weight"].values, ElementsAre(2, 2, 3, 2, 5, 7));
  ASSERT_TRUE(Merge({"plain", "plain"}).ok());
  EXPECT_THAT(Merged()["model.fc.weight"].values, ElementsAre(5, 8, 12, 8, 17, 28));
  WriteAdapter("pattern", {{"alpha_pattern", {{"fc", 2}}}}, Pair());
  ASSERT_TRUE(Merge({"pattern"}).ok());
  EXPECT_THAT(Merged()["model.fc.weight"].values, ElementsAre(2, 2, 3, 2, 5, 7));
}

TEST_F(LoraMergeTest, WholeTensorsReplaceAndMayGrowTheVocabulary) {
  Tensors tensors = Pair();
  tensors["base_model.model.model.embed_tokens.weight"] = {{4, 2}, {1, 1, 1, 1, 1, 1, 9, 9}};
  WriteAdapter("grown", {{"modules_to_save", {"embed_tokens", "lm_head"}}}, tensors);
  ASSERT_TRUE(Merge({"grown"}).ok());
  EXPECT_THAT(Merged()["model.embed_tokens.weight"].values, ElementsAre(1, 1, 1, 1, 1, 1, 9, 9));
  const auto config =
      nlohmann::json::parse(ReadFile((folder_ / "merged") + "/config.json").value());
  EXPECT_EQ(config["vocab_size"], 4);
}

// As PEFT saves an adapter of a resized embedding: its weight from below the adapter too.
TEST_F(LoraMergeTest, WeightsFromBelowAnAdapterTakeTheBasesPlace) {
  const std::string embedding = "base_model.model.model.embed_tokens.";
  const Tensors tensors = {{embedding + "base_layer.weight", {{4, 2}, {1, 1, 1, 1, 1, 1, 9, 9}}},
                           {embedding + "lora_embedding_A", {{1, 4}, {1, 0, 2, 0}}},
                           {embedding + "lora_embedding_B", {{2, 1}, {1, 10}}}};
  WriteAdapter("resized", {}, tensors);
  ASSERT_TRUE(Merge({"resized"}).ok());
  EXPECT_THAT(Merged()["model.embed_tokens.weight"].values, ElementsAre(5, 41, 1, 1, 9, 81, 9, 9));
  EXPECT_EQ(Merged().size(), 2u);
  // Once more from the same weight, not on top of the first.
  ASSERT_TRUE(Merge({"resized", "resized"}).ok());
  EXPECT_THAT(Merged()["model.embed_tokens.weight"].values, ElementsAre(5, 41, 1, 1, 9, 81, 9, 9));
  Tensors saved = Pair();
  saved[embedding + "original_module.weight"] = {{3, 2}, {0, 0, 0, 0, 0, 0}};
  saved[embedding + "modules_to_save.weight"] = {{3, 2}, {7, 7, 7, 7, 7, 7}};
  WriteAdapter("saved", {}, saved);
  ASSERT_TRUE(Merge({"saved"}).ok());
  EXPECT_THAT(Merged()["model.embed_tokens.weight"].values, ElementsAre(7, 7, 7, 7, 7, 7));
  EXPECT_EQ(Merged().size(), 2u);
}

TEST_F(LoraMergeTest, EmbeddingsAreUpdatedTransposed) {
  WriteAdapter("embedding", {},
               {{"base_model.model.model.embed_tokens.lora_embedding_A", {{1, 3}, {1, 0, 2}}},
                {"base_model.model.model.embed_tokens.lora_embedding_B", {{2, 1}, {1, 10}}}});
  ASSERT_TRUE(Merge({"embedding"}).ok());
  EXPECT_THAT(Merged()["model.embed_tokens.weight"].values, ElementsAre(5, 42, 3, 4, 13, 86));
}

// Every tensor of `want` in `got`: dtype, shape and bytes.
void ExpectSameTensors(const TensorSource& got, const TensorSource& want) {
  EXPECT_EQ(got.Names(), want.Names());
  for (const std::string& name : want.Names()) {
    const TensorView a = got.Get(name).value();
    const TensorView b = want.Get(name).value();
    EXPECT_EQ(a.dtype, b.dtype) << name;
    EXPECT_EQ(a.shape, b.shape) << name;
    ASSERT_EQ(a.num_bytes(), b.num_bytes()) << name;
    EXPECT_EQ(std::memcmp(a.data, b.data, static_cast<size_t>(b.num_bytes())), 0) << name;
  }
}

TEST(LoraConvertTest, BothWaysTensorForTensor) {
  TestFolder folder("lora_convert");
  const std::vector<std::string> sources = {
      GoldenDir("llama-gqa-lora0") + "/adapter_model.safetensors",
      GoldenDir("llama-gqa") + "/model.safetensors"};  // bfloat16
  for (const std::string& source : sources) {
    Status status = convert::ConvertTensorFile(source, folder / "there.bin");
    ASSERT_TRUE(status.ok()) << status.ToString();
    status = convert::ConvertTensorFile(folder / "there.bin", folder / "back.safetensors");
    ASSERT_TRUE(status.ok()) << status.ToString();
    const auto original = OpenSafetensors(source).value();
    ExpectSameTensors(*OpenTorchBin(folder / "there.bin").value(), *original);
    ExpectSameTensors(*OpenSafetensors(folder / "back.safetensors").value(), *original);
  }
  const std::string bin = GoldenDir("llama-gqa-lora1") + "/adapter_model.bin";
  ASSERT_TRUE(convert::ConvertTensorFile(bin, folder / "one.safetensors").ok());
  ExpectSameTensors(*OpenSafetensors(folder / "one.safetensors").value(),
                    *OpenTorchBin(bin).value());
  EXPECT_FALSE(convert::ConvertTensorFile(bin, folder / "other.bin").ok());
  EXPECT_FALSE(convert::ConvertTensorFile(folder / "absent.bin", folder / "x.safetensors").ok());
}

TEST_F(LoraMergeTest, WrongAdaptersAreRefusedByName) {
  const auto expect = [&](nlohmann::json config, const Tensors& tensors, const char* part) {
    WriteAdapter("wrong", std::move(config), tensors);
    const Status status = Merge({"wrong"});
    EXPECT_FALSE(status.ok());
    EXPECT_NE(status.ToString().find(part), std::string::npos) << status.ToString();
  };
  expect({{"use_dora", true}}, Pair(), "use_dora");
  expect({{"bias", "all"}}, Pair(), "bias");
  expect({{"alpha_pattern", {{".*fc", 2}}}}, Pair(), "regular expression");
  expect({}, Pair("base_model.model.model.other."), "model.other.weight");
  Tensors half = Pair();
  half.erase(half.begin());
  expect({}, half, "only one of");
  Tensors wide = Pair();
  wide.begin()->second = {{2, 4}, {0, 0, 0, 0, 0, 0, 0, 0}};
  expect({}, wide, "does not fit");
  wide.begin()->second = {{1, 3}, {0, 0, 0}};
  expect({}, wide, "low-rank");
  EXPECT_NE(Merge({"absent"}).ToString().find("absent"), std::string::npos);
}

}  // namespace
}  // namespace trireme
