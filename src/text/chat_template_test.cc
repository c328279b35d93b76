// SPDX-License-Identifier: Apache-2.0
// Published templates with the renderings of Jinja2, and the ways a folder keeps its template.
#include "trireme/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/mapped_file.h"
#include "tests/source_path.h"

namespace trireme {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

std::string ReadText(const std::string& path) {
  const auto text = ReadFile(path);
  EXPECT_TRUE(text.ok()) << text.status().ToString();
  return text.ok() ? *text : "";
}

void CheckRenderings(const Json& document, const ChatTemplate& chat_template) {
  const ChatTemplateOptions options{.now = document["now"].get<std::string>()};
  for (const Json& one : document["cases"]) {
    SCOPED_TRACE(one["name"].get<std::string>());
    Json variables = one["kwargs"];
    variables["messages"] = one["messages"];
    const auto text = chat_template.Render(variables.dump(), options);
    if (one.contains("expected_error")) {
      ASSERT_FALSE(text.ok());
      EXPECT_THAT(text.status().message(), HasSubstr(one["expected_error"].get<std::string>()));
    } else if (text.ok()) {
      EXPECT_EQ(*text, one["expected"].get<std::string>());
    } else {
      ADD_FAILURE() << text.status().ToString();
    }
  }
}

TEST(ChatTemplateTest, PublishedTemplatesRenderAsJinja2Does) {
  int count = 0;
  for (const auto& entry : fs::directory_iterator(SourcePath("tests/data/chat_templates"))) {
    if (entry.path().extension() != ".json") continue;
    SCOPED_TRACE(entry.path().filename().string());
    const Json document = Json::parse(ReadText(entry.path()), nullptr, false);
    ASSERT_TRUE(document.is_object());
    fs::path source = entry.path();
    const auto parsed = ChatTemplate::Parse(ReadText(source.replace_extension(".jinja")));
    ASSERT_TRUE(parsed.ok()) << parsed.status().ToString();
    CheckRenderings(document, **parsed);
    ++count;
  }
  EXPECT_GE(count, 16);
}

TEST(ChatTemplateTest, CommonVariablesAreDefined) {
  const auto parsed = ChatTemplate::Parse(
      "{{ tools is none }}{{ documents is none }}{{ add_generation_prompt }}{{ messages is defined "
      "}}");
  ASSERT_TRUE(parsed.ok());
  auto text = (*parsed)->Render("{}");
  ASSERT_TRUE(text.ok());
  EXPECT_EQ(*text, "TrueTrueFalseFalse");
  text = (*parsed)->Render(R"({"tools": [], "add_generation_prompt": true, "messages": []})");
  ASSERT_TRUE(text.ok());
  EXPECT_EQ(*text, "FalseTrueTrueTrue");
}

class ChatTemplateFolderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    dir_ = ::testing::TempDir() + "/chat_template_test";
    fs::remove_all(dir_);
    ASSERT_TRUE(MakeDirectories(dir_).ok());
  }
  void TearDown() override { fs::remove_all(dir_); }

  void Write(const std::string& name, std::string_view text) {
    ASSERT_TRUE(MakeDirectories(fs::path(dir_ + "/" + name).parent_path()).ok());
    ASSERT_TRUE(WriteFile(dir_ + "/" + name, text).ok());
  }
  // The text that template `name` of the folder makes of no variables, or the error.
  std::string Rendered(std::string_view name = "default") {
    const auto loaded = ChatTemplate::Load(dir_, name);
    if (!loaded.ok()) return loaded.status().ToString();
    const auto text = (*loaded)->Render("{}");
    return text.ok() ? *text : text.status().ToString();
  }

  std::string dir_;
};

TEST_F(ChatTemplateFolderTest, NoTemplateIsNotFound) {
  EXPECT_EQ(ChatTemplate::Load(dir_).status().code(), StatusCode::kNotFound);
  Write("tokenizer_config.json", R"({"chat_template": null})");
  EXPECT_EQ(ChatTemplate::Load(dir_).status().code(), StatusCode::kNotFound);
}

TEST_F(ChatTemplateFolderTest, SpecialTokensAreVariables) {
  Write("tokenizer_config.json",
        R"({"chat_template": "{{ bos_token }}|{{ eos_token }}|{{ pad_token }}|{{ image_token }}",
            "bos_token": {"content": "<s>", "lstrip": false}, "eos_token": "</s>",
            "pad_token": null, "add_bos_token": true})");
  Write("special_tokens_map.json", R"({"eos_token": "<old>", "image_token": "<img>"})");
  EXPECT_EQ(Rendered(), "<s>|</s>||<img>");
  const auto loaded = ChatTemplate::Load(dir_);
  ASSERT_TRUE(loaded.ok());
  const auto text = (*loaded)->Render(R"({"bos_token": "B"})");
  ASSERT_TRUE(text.ok());
  EXPECT_EQ(*text, "B|</s>||<img>");
}

TEST_F(ChatTemplateFolderTest, NamedTemplates) {
  Write("tokenizer_config.json", R"({"chat_template": [{"name": "default", "template": "D"},
                                                       {"name": "tool_use", "template": "T"}]})");
  EXPECT_EQ(Rendered(), "D");
  EXPECT_EQ(Rendered("tool_use"), "T");
  EXPECT_THAT(Rendered("rag"), HasSubstr("default, tool_use"));
  EXPECT_THAT(Rendered("../x"), HasSubstr("INVALID_ARGUMENT"));
}

TEST_F(ChatTemplateFolderTest, FilesComeBeforeTheConfig) {
  Write("tokenizer_config.json", R"({"chat_template": "config"})");
  Write("chat_template.json", R"({"chat_template": "json"})");
  EXPECT_EQ(Rendered(), "json");
  Write("chat_template.jinja", "file\n");
  Write("additional_chat_templates/rag.jinja", "more");
  EXPECT_EQ(Rendered(), "file");
  EXPECT_EQ(Rendered("rag"), "more");
}

TEST_F(ChatTemplateFolderTest, OwnFileKeepsTheTokensOfTheFolder) {
  Write("tokenizer_config.json", R"({"chat_template": "config", "bos_token": "<s>"})");
  Write("mine.jinja", "{{ bos_token }}mine");
  const auto loaded = ChatTemplate::LoadFile(dir_ + "/mine.jinja", dir_);
  ASSERT_TRUE(loaded.ok()) << loaded.status().ToString();
  const auto text = (*loaded)->Render("{}");
  ASSERT_TRUE(text.ok());
  EXPECT_EQ(*text, "<s>mine");
  EXPECT_EQ(ChatTemplate::LoadFile(dir_ + "/none.jinja", dir_).status().code(),
            StatusCode::kNotFound);
}

TEST_F(ChatTemplateFolderTest, BrokenFilesAreNamed) {
  Write("tokenizer_config.json", "[1]");
  EXPECT_THAT(Rendered(), HasSubstr("tokenizer_config.json is not a JSON object"));
  Write("tokenizer_config.json", R"({"chat_template": 5})");
  EXPECT_THAT(Rendered(), HasSubstr("neither text nor list"));
  Write("tokenizer_config.json", R"({"chat_template": [{"name": "default"}]})");
  EXPECT_THAT(Rendered(), HasSubstr("without name and template"));
  Write("tokenizer_config.json", R"({"chat_template": "{% if %}"})");
  EXPECT_THAT(Rendered(), HasSubstr("chat template line 1"));
}

}  // namespace
}  // namespace trireme
