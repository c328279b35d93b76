// SPDX-License-Identifier: Apache-2.0
#include "server/backends/layout/stock_model.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "server/backends/layout/git_blob_id.h"
#include "server/backends/layout/stock_blobs.h"
#include "server/testing/repository_fixture.h"

namespace trireme::server {
namespace {

using testing::TestRepository;

ModelConfig Postprocessing(const std::string& native) {
  ModelConfig config;
  config.name = "postprocessing";
  config.backend = "python";
  config.inputs = {{.name = "TOKENS_BATCH", .type = DataType::kInt32, .dims = {-1, -1}}};
  config.outputs = {{.name = "OUTPUT", .type = DataType::kBytes, .dims = {-1}}};
  if (!native.empty()) config.parameters["native"] = native;
  return config;
}

// What `git hash-object` prints for these.
TEST(GitBlobIdTest, IsGits) {
  EXPECT_EQ(GitBlobId(""), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
  EXPECT_EQ(GitBlobId("hello\n"), "ce013625030ba8dba906f756967f9e9ca394464a");
  EXPECT_EQ(GitBlobId(std::string(1000, 'a')), "a50be72b20f0e3f078d252e8e56b11b4bec67509");
}

TEST(StockModelTest, PublishedNamesAreSorted) {
  EXPECT_TRUE(std::ranges::is_sorted(kStockBlobs));
  EXPECT_EQ(std::ranges::adjacent_find(kStockBlobs), kStockBlobs.end());
}

TEST(StockModelTest, EveryFileMustBeKnown) {
  TestRepository repository;
  repository.Write("m/1/model.py", "hello\n");
  repository.Write("m/1/lib/__init__.py", "");
  const std::string version = repository.path() + "/m/1";
  const std::string_view known[] = {"ce013625030ba8dba906f756967f9e9ca394464a"};
  std::string other;
  EXPECT_TRUE(AllFilesAmong(version, known, other));
  repository.Write("m/1/lib/mine.py", "pass\n");
  EXPECT_FALSE(AllFilesAmong(version, known, other));
  EXPECT_NE(other.find("mine.py"), std::string::npos);
  EXPECT_FALSE(AllFilesAmong(repository.path() + "/nowhere", known, other));
}

TEST(StockModelTest, TheParameterDecides) {
  TestRepository repository;
  repository.Write("m/1/model.py", "print('mine')\n");
  const std::string model = repository.path() + "/m";
  const auto choose = [&](const std::string& native) {
    return ChooseBackend(Postprocessing(native), model, model + "/1");
  };
  EXPECT_EQ(*choose(""), "python");
  EXPECT_EQ(*choose("auto"), "python");
  EXPECT_EQ(*choose("off"), "python");
  EXPECT_EQ(*choose("on"), "llm_postprocessing");
  EXPECT_FALSE(choose("maybe").ok());
  ModelConfig other = Postprocessing("on");
  other.inputs.clear();
  EXPECT_FALSE(ChooseBackend(other, model, model + "/1").ok());
}

TEST(StockModelTest, EngineArgumentsAloneAreAVllmModel) {
  TestRepository repository;
  repository.Write("m/1/model.json", "{}");
  const std::string model = repository.path() + "/m";
  ModelConfig config;
  config.name = "m";
  config.backend = "python";
  EXPECT_EQ(*ChooseBackend(config, model, model + "/1"), "vllm");
  repository.Write("m/1/model.py", "pass\n");
  EXPECT_EQ(*ChooseBackend(config, model, model + "/1"), "python");
}

}  // namespace
}  // namespace trireme::server
