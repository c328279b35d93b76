// SPDX-License-Identifier: Apache-2.0
// Engines that cannot be used: each is refused with what is wrong and what to do.
#include "engine/engine_folder.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/mapped_file.h"
#include "base/status.h"
#include "engine/session.h"

namespace trireme::engine {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class EngineFolderTest : public testing::Test {
 protected:
  EngineFolderTest()
      : folder_(fs::temp_directory_path() / fmt::format("trireme_engine_{}", ::getpid())) {
    fs::create_directories(folder_);
    config_ = {{"pretrained_config",
                {{"architecture", "LlamaForCausalLM"},
                 {"dtype", "float32"},
                 {"vocab_size", 8},
                 {"hidden_size", 4},
                 {"num_hidden_layers", 1},
                 {"num_attention_heads", 1},
                 {"hidden_act", "silu"},
                 {"mapping", {{"world_size", 1}, {"tp_size", 1}, {"pp_size", 1}}}}},
               {"build_config",
                {{"max_batch_size", 2},
                 {"max_num_tokens", 16},
                 {"max_seq_len", 16},
                 {"plugin_config", {{"tokens_per_block", 8}}}}}};
  }
  ~EngineFolderTest() override { fs::remove_all(folder_); }

  std::string Path() const { return (folder_ / "rank0.engine").string(); }

  void Write(const std::string& plan) {
    auto writer = EngineFileWriter::Create(Path(), config_.dump(), plan, {});
    ASSERT_TRUE(writer.ok()) << writer.status().ToString();
    ASSERT_TRUE((*writer)->Finish().ok());
  }

  fs::path folder_;
  json config_;
};

TEST_F(EngineFolderTest, MissingOnesNameTheRemedy) {
  EXPECT_EQ(OpenEngine("/nowhere/engine").status().code(), StatusCode::kNotFound);
  const Status status = OpenEngine(folder_.string()).status();
  EXPECT_EQ(status.code(), StatusCode::kNotFound);
  EXPECT_NE(status.message().find("trireme build"), std::string_view::npos);
}

TEST_F(EngineFolderTest, DamagedOnesAreErrors) {
  ASSERT_TRUE(WriteFile(Path(), "not an engine at all, just some text of enough length").ok());
  EXPECT_FALSE(OpenEngine(folder_.string()).ok());
  Write("{}");
  EXPECT_FALSE(OpenEngine(folder_.string()).ok());
  config_.erase("build_config");
  Write("{}");
  EXPECT_FALSE(OpenEngine(folder_.string()).ok());
}

TEST_F(EngineFolderTest, SeveralRanksAreRefusedByName) {
  config_["pretrained_config"]["mapping"] = {{"world_size", 2}, {"tp_size", 2}, {"pp_size", 1}};
  Write("{}");
  const Status status = OpenEngine(folder_.string()).status();
  EXPECT_EQ(status.code(), StatusCode::kUnimplemented) << status.ToString();
  EXPECT_NE(status.message().find("2 ranks"), std::string_view::npos);
}

// Every prefix of an engine file is an error, never a crash.
TEST_F(EngineFolderTest, TruncatedFilesAreErrors) {
  Write("{}");
  const std::string whole = ReadFile(Path()).value();
  for (size_t size = 0; size < whole.size(); size += 1 + size / 16) {
    ASSERT_TRUE(WriteFile(Path(), whole.substr(0, size)).ok());
    EXPECT_FALSE(OpenEngine(Path()).ok()) << size;
  }
}

TEST_F(EngineFolderTest, AnUnreadableVersionNamesTheRebuild) {
  Write("{}");
  std::string bytes = ReadFile(Path()).value();
  bytes[8] = 77;  // the format version
  ASSERT_TRUE(WriteFile(Path(), bytes).ok());
  const Status status = OpenEngine(folder_.string()).status();
  EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition) << status.ToString();
  EXPECT_NE(status.message().find("77"), std::string_view::npos) << status.ToString();
  EXPECT_NE(status.message().find("trireme build"), std::string_view::npos) << status.ToString();
}

}  // namespace
}  // namespace trireme::engine
