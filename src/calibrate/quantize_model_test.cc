// SPDX-License-Identifier: Apache-2.0
// Quantizes the demo model and holds it to its own full-precision score.
#include "calibrate/quantize_model.h"

#include <gmock/gmock.h>

#include <filesystem>

#include "convert/demo_testing.h"
#include "formats/checkpoint.h"
#include "formats/safetensors.h"
#include "formats/test_files.h"
#include "tensor/float_formats.h"
#include "trireme/builder.h"

namespace trireme::calibrate {
namespace {

using ::testing::HasSubstr;

std::string Stories(const TestFolder& folder) {
  return folder.Put("stories.txt", convert::DemoStories());
}

TEST(QuantizeModelTest, Float8OfTheDemoModelKeepsItsPerplexity) {
  const TestFolder folder;
  QuantizeOptions options;
  options.model_dir = convert::kDemoModel;
  options.output_dir = folder.File("fp8");
  options.qformat = "fp8";
  options.kv_cache_dtype = "fp8";
  options.calib_dataset = Stories(folder);
  options.calib_max_seq_length = 128;
  const StatusOr<QuantizeReport> report = QuantizeModel(options, {});
  ASSERT_TRUE(report.ok()) << report.status().message();
  EXPECT_GT(report->num_calibration_tokens, 1000);
  EXPECT_GE(report->num_held_out_samples, 2);
  ASSERT_TRUE(report->before && report->after);
  EXPECT_GT(report->before->num_tokens, 200);
  EXPECT_LT(report->before->value, 30.0);  // its own stories: far from guessing among 8,192
  EXPECT_LT(report->after->value, report->before->value * 1.02);
  EXPECT_GT(report->same_best, 0.95);
  EXPECT_NE(report->after->value, report->before->value) << "nothing was quantized";
  EXPECT_FALSE(std::filesystem::exists(folder.File("fp8/.calibration")));

  const auto config = LoadCheckpointConfig(options.output_dir);
  ASSERT_TRUE(config.ok());
  EXPECT_EQ(config->quantization.quant_algo, "FP8");
  EXPECT_EQ(config->quantization.kv_cache_quant_algo, "FP8");
  const auto tensors = OpenSafetensors(RankFile(options.output_dir, 0));
  ASSERT_TRUE(tensors.ok());
  const std::string qkv = "transformer.layers.3.attention.qkv.";
  EXPECT_EQ((*tensors)->Get(qkv + "weight")->dtype, DType::kFloat8E4M3);
  for (const std::string& name :
       {qkv + "weights_scaling_factor", qkv + "activation_scaling_factor",
        std::string("transformer.layers.7.attention.kv_cache_scaling_factor")}) {
    const auto scale = (*tensors)->Get(name);
    ASSERT_TRUE(scale.ok()) << name;
    EXPECT_EQ(scale->shape, Shape({1})) << name;
    EXPECT_EQ(scale->dtype, DType::kFloat32) << name;
    EXPECT_GT(LoadAsFloat(*scale, 0), 0.0f) << name;
  }
  EXPECT_EQ((*tensors)->Get("lm_head.weight")->dtype, DType::kBFloat16);

  // The engine of the published checkpoint: the cache of the CPU is not FP8.
  BuildOptions build{.checkpoint_dir = options.output_dir, .output_dir = folder.File("engine")};
  build.time_tactics = false;
  EXPECT_THAT(std::string(BuildEngine(build, {}).message()), HasSubstr("KV cache of fp8"));
  build.kv_dtype = "bfloat16";
  EXPECT_TRUE(BuildEngine(build, {}).ok());
}

TEST(QuantizeModelTest, WeightOnlyFormatsAreReportedToo) {
  const TestFolder folder;
  QuantizeOptions options;
  options.model_dir = convert::kDemoModel;
  options.output_dir = folder.File("int8");
  options.qformat = "int8_wo";
  options.calib_dataset = Stories(folder);
  options.calib_max_seq_length = 64;
  const StatusOr<QuantizeReport> report = QuantizeModel(options, {});
  ASSERT_TRUE(report.ok()) << report.status().message();
  ASSERT_TRUE(report->before && report->after);
  EXPECT_NEAR(report->after->value / report->before->value, 1.0, 0.01);
}

TEST(QuantizeModelTest, RefusesByName) {
  const TestFolder folder;
  QuantizeOptions options{.model_dir = convert::kDemoModel, .output_dir = folder.File("out")};
  const auto message = [&] { return std::string(QuantizeModel(options, {}).status().message()); };
  options.qformat = "int4_awq";
  EXPECT_THAT(message(), HasSubstr("int4_awq does not exist yet"));
  options.qformat = "fp16";
  EXPECT_THAT(message(), HasSubstr("'fp16' is unknown"));
  options.qformat = "fp8";
  EXPECT_THAT(message(), HasSubstr("needs --calib_dataset"));
  options.calib_dataset = "cnn_dailymail";
  EXPECT_THAT(message(), HasSubstr("nothing is downloaded"));
  options.calib_dataset = folder.Put("short.txt", "a");
  options.calib_size = 0;
  EXPECT_THAT(message(), HasSubstr("--calib_size 0"));
  options.calib_size = 8;
  options.kv_cache_dtype = "int8";
  EXPECT_THAT(message(), HasSubstr("int8 does not exist yet"));
  options.kv_cache_dtype = "";
  options.model_dir = folder.File("nothing");
  EXPECT_FALSE(QuantizeModel(options, {}).ok());
  EXPECT_FALSE(std::filesystem::exists(folder.File("out/config.json")));
}

}  // namespace
}  // namespace trireme::calibrate
