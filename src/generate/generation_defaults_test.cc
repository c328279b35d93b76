// SPDX-License-Identifier: Apache-2.0
#include "generate/generation_defaults.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "base/mapped_file.h"
#include "base/status.h"

namespace trireme::generate {
namespace {

namespace fs = std::filesystem;

class GenerationDefaultsTest : public testing::Test {
 protected:
  GenerationDefaultsTest()
      : folder_(fs::temp_directory_path() / fmt::format("trireme_defaults_{}", ::getpid())) {
    fs::create_directories(folder_);
  }
  ~GenerationDefaultsTest() override { fs::remove_all(folder_); }

  StatusOr<GenerationDefaults> Read(const std::string& text) {
    EXPECT_TRUE(WriteFile((folder_ / "generation_config.json").string(), text).ok());
    return ReadGenerationDefaults(folder_.string());
  }

  fs::path folder_;
};

TEST_F(GenerationDefaultsTest, SamplingCountsOnlyWhereItIsOn) {
  EXPECT_FALSE(ReadGenerationDefaults(folder_.string())->temperature.has_value());
  const auto off = Read(R"({"temperature": 0.6, "top_p": 0.9, "repetition_penalty": 1.1})");
  ASSERT_TRUE(off.ok());
  EXPECT_FALSE(off->temperature || off->top_p || off->top_k);
  EXPECT_FLOAT_EQ(off->repetition_penalty.value(), 1.1f);
  const auto on = Read(R"({"do_sample": true, "temperature": 0.6, "top_p": 0.9, "top_k": null})");
  ASSERT_TRUE(on.ok());
  EXPECT_FLOAT_EQ(on->temperature.value(), 0.6f);
  EXPECT_EQ(on->top_k, 50);
  EXPECT_EQ(Read(R"({"do_sample": true, "top_k": 0})")->top_p, 1.0f);
}

TEST_F(GenerationDefaultsTest, WrongMembersAreNamed) {
  for (const char* text :
       {R"({"do_sample": true, "temperature": 0})", R"({"do_sample": true, "temperature": "hot"})",
        R"({"do_sample": true, "top_p": 1.5})", R"({"do_sample": true, "top_k": -1})",
        R"({"repetition_penalty": 0})", R"({"repetition_penalty": [1]})", "[]", "{"}) {
    const Status status = Read(text).status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << text;
    EXPECT_NE(status.message().find("generation_config.json"), std::string_view::npos) << text;
  }
}

TEST_F(GenerationDefaultsTest, OnlyWhatIsOpenIsFilled) {
  const GenerationDefaults defaults{
      .temperature = 0.6f, .top_k = 40, .top_p = 0.9f, .repetition_penalty = 1.2f};
  SamplingParams open;
  ApplyDefaults(defaults, {}, 1000, open);
  EXPECT_EQ(open.top_k, 40);
  EXPECT_EQ(open.top_p, 0.9f);
  EXPECT_EQ(open.temperature, 0.6f);
  EXPECT_EQ(open.repetition_penalty, 1.2f);

  SamplingParams some;
  some.temperature = 1.5f;
  ApplyDefaults(defaults, {.temperature = true}, 30, some);
  EXPECT_EQ(some.temperature, 1.5f);
  EXPECT_EQ(some.top_k, 30);  // a vocabulary of 30

  SamplingParams plain_value;
  ApplyDefaults(defaults, {.repetition_penalty = true}, 1000, plain_value);
  EXPECT_EQ(plain_value.repetition_penalty, 1.0f);

  SamplingParams greedy;
  greedy.top_k = 1;
  ApplyDefaults(defaults, {.top_k = true}, 1000, greedy);
  EXPECT_EQ(greedy.top_p, 0.0f);
  EXPECT_EQ(greedy.repetition_penalty, 1.0f);
}

}  // namespace
}  // namespace trireme::generate
