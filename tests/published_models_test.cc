// SPDX-License-Identifier: Apache-2.0
// Published models of every family from their configuration alone: a dry build counts their
// parameters, weight bytes and KV bytes; the largest of each family runs a step at full width.
#include <cmath>
#include <map>

#include "tests/source_path.h"

#include "golden_testing.h"

namespace trireme {
namespace {

const nlohmann::json& PublishedModels() {
  static const nlohmann::json models =
      nlohmann::json::parse(ReadFile(SourcePath("tests/data/published_models.json")).value());
  return models;
}

BuildOptions OptionsFor(const TestFolder& folder, const nlohmann::json& config) {
  EXPECT_TRUE(WriteFile(folder / "config.json", config.dump()).ok());
  BuildOptions options;
  options.model_config = folder / "config.json";
  options.output_dir = folder / "engine";
  options.dtype = "bfloat16";
  options.time_tactics = false;
  return options;
}

TEST(PublishedModels, DryBuildsCountWhatIsPublished) {
  for (const auto& [name, model] : PublishedModels().items()) {
    SCOPED_TRACE(name);
    TestFolder folder("published");
    BuildOptions options = OptionsFor(folder, model["config"]);
    options.dry_run = true;
    BuildSummary summary;
    const Status status = BuildEngine(options, {}, summary);
    ASSERT_TRUE(status.ok()) << status.ToString();
    EXPECT_EQ(summary.num_parameters, model["parameters"].get<int64_t>());
    EXPECT_EQ(summary.weight_bytes, 2 * model["parameters"].get<int64_t>());
    EXPECT_EQ(summary.kv_bytes_per_token, model["kv_bytes_per_token"].get<int64_t>());
  }
}

// Architecture -> the model with the most parameters.
std::map<std::string, std::string> LargestOfEachFamily() {
  std::map<std::string, std::string> largest;
  for (const auto& [name, model] : PublishedModels().items()) {
    std::string& best = largest[model["config"]["architectures"][0].get<std::string>()];
    if (best.empty() || model["parameters"] > PublishedModels()[best]["parameters"]) best = name;
  }
  return largest;
}

// The published widths with two layers (one of the largest models) and a small vocabulary, so that a
// machine of few gigabytes runs it.
nlohmann::json Reduced(nlohmann::json config, int64_t parameters) {
  for (const char* key : {"num_hidden_layers", "n_layer", "num_layers"}) {
    if (config.contains(key)) config[key] = parameters > 20'000'000'000 ? 1 : 2;
  }
  for (const char* key : {"vocab_size", "padded_vocab_size"}) {
    if (config.contains(key)) config[key] = 1000;
  }
  return config;
}

TEST(PublishedModels, TheLargestOfEachFamilyRunsAStep) {
  for (const auto& [architecture, name] : LargestOfEachFamily()) {
    SCOPED_TRACE(name);
    const nlohmann::json& model = PublishedModels()[name];
    TestFolder folder("largest");
    BuildOptions options = OptionsFor(folder, Reduced(model["config"], model["parameters"]));
    options.weight_only_precision = "int4";
    options.limits.max_seq_len = 64;
    options.limits.max_num_tokens = 64;
    options.limits.max_batch_size = 2;
    const Status status = BuildEngine(options, {});
    ASSERT_TRUE(status.ok()) << status.ToString();
    const RunResult run = RunEngine(folder / "engine", {{3, 1, 4, 1, 5}});
    ASSERT_EQ(run.context_logits[0].size(), 5u * 1000);
    float low = INFINITY, high = -INFINITY;
    for (const float logit : run.context_logits[0]) {
      ASSERT_TRUE(std::isfinite(logit));
      low = std::min(low, logit);
      high = std::max(high, logit);
    }
    EXPECT_GT(high, low);
    EXPECT_EQ(run.tokens[0].size(), static_cast<size_t>(kNewTokens));
  }
}

}  // namespace
}  // namespace trireme
