// SPDX-License-Identifier: Apache-2.0
// Finds the chat template and the special tokens of a model folder. Thread-safe.
#include "trireme/chat_template.h"

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/mapped_file.h"
#include "base/status.h"
#include "text/jinja.h"

namespace trireme {
namespace {

using Json = nlohmann::ordered_json;

constexpr uint64_t kMaxConfigBytes = 64u << 20;  // tokenizer_config.json lists every added token

bool FileExists(const std::string& path) {
  std::error_code error;
  return std::filesystem::is_regular_file(path, error);
}

// The object in `dir`/`name`; an empty one when there is no such file.
StatusOr<Json> ReadObject(const std::string& dir, const char* name) {
  const std::string path = dir + "/" + name;
  if (!FileExists(path)) return Json::object();
  TRIREME_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxConfigBytes));
  Json json = Json::parse(text, nullptr, false);
  if (!json.is_object()) return InvalidArgument("{} is not a JSON object", path);
  return json;
}

bool IsTokenName(std::string_view key) { return key.ends_with("_token"); }

// "<s>", or {"content": "<s>", ...}.
std::optional<std::string> TokenText(const Json& token) {
  if (token.is_string()) return token.get<std::string>();
  if (!token.is_object()) return std::nullopt;
  const auto content = token.find("content");
  if (content == token.end() || !content->is_string()) return std::nullopt;
  return content->get<std::string>();
}

void AddTokens(const Json& source, Json* tokens) {
  for (const auto& [key, value] : source.items()) {
    if (!IsTokenName(key)) continue;
    if (const std::optional<std::string> text = TokenText(value)) (*tokens)[key] = *text;
  }
}

// What every template may expect to be defined, given or not.
Json CommonVariables() {
  return {{"tools", nullptr}, {"documents", nullptr}, {"add_generation_prompt", false}};
}

// The common variables and the special tokens of a folder.
StatusOr<std::string> DefaultVariables(const std::string& dir, const Json& config) {
  TRIREME_ASSIGN_OR_RETURN(const Json map, ReadObject(dir, "special_tokens_map.json"));
  Json tokens = CommonVariables();
  AddTokens(map, &tokens);
  AddTokens(config, &tokens);  // the later file of the two formats, so it wins
  return tokens.dump(-1, ' ', false, Json::error_handler_t::replace);
}

// `entry` is a template text, or a list of named ones.
StatusOr<std::string> PickTemplate(const Json& entry, std::string_view name,
                                   const std::string& path) {
  if (entry.is_string()) {
    if (name == "default") return entry.get<std::string>();
    return NotFound("{} has one chat template, and none named '{}'", path, name);
  }
  if (!entry.is_array())
    return InvalidArgument("chat_template in {} is neither text nor list", path);
  std::string names;
  for (const Json& item : entry) {
    const auto item_name = item.is_object() ? item.find("name") : item.end();
    const auto source = item.is_object() ? item.find("template") : item.end();
    if (!item.is_object() || item_name == item.end() || !item_name->is_string() ||
        source == item.end() || !source->is_string()) {
      return InvalidArgument("chat_template in {} has an entry without name and template", path);
    }
    if (item_name->get_ref<const std::string&>() == name) return source->get<std::string>();
    names += (names.empty() ? "" : ", ") + item_name->get_ref<const std::string&>();
  }
  return NotFound("{} has no chat template '{}'; there are: {}", path, name, names);
}

bool IsPlainName(std::string_view name) {
  return !name.empty() && name.find_first_of("/\\") == name.npos && name[0] != '.';
}

// The text of the template `name` of a folder.
StatusOr<std::string> FindSource(const std::string& dir, std::string_view name,
                                 const Json& config) {
  if (!IsPlainName(name)) return InvalidArgument("'{}' is no name of a chat template", name);
  const std::string file = name == "default"
                               ? dir + "/chat_template.jinja"
                               : fmt::format("{}/additional_chat_templates/{}.jinja", dir, name);
  if (FileExists(file)) return ReadFile(file, kMaxConfigBytes);
  TRIREME_ASSIGN_OR_RETURN(const Json separate, ReadObject(dir, "chat_template.json"));
  if (const auto entry = separate.find("chat_template"); entry != separate.end()) {
    return PickTemplate(*entry, name, dir + "/chat_template.json");
  }
  const auto entry = config.find("chat_template");
  if (entry == config.end() || entry->is_null()) {
    return NotFound("{} has no chat template; name a file with --chat_template", dir);
  }
  return PickTemplate(*entry, name, dir + "/tokenizer_config.json");
}

}  // namespace

ChatTemplate::ChatTemplate(std::unique_ptr<jinja::Template> parsed, std::string defaults_json)
    : template_(std::move(parsed)), defaults_json_(std::move(defaults_json)) {}

ChatTemplate::~ChatTemplate() = default;

StatusOr<std::unique_ptr<ChatTemplate>> ChatTemplate::Parse(std::string_view source) {
  TRIREME_ASSIGN_OR_RETURN(auto parsed, jinja::Template::Parse(source));
  return std::unique_ptr<ChatTemplate>(
      new ChatTemplate(std::move(parsed), CommonVariables().dump()));
}

StatusOr<std::unique_ptr<ChatTemplate>> ChatTemplate::Load(const std::string& dir,
                                                           std::string_view name) {
  TRIREME_ASSIGN_OR_RETURN(const Json config, ReadObject(dir, "tokenizer_config.json"));
  TRIREME_ASSIGN_OR_RETURN(const std::string source, FindSource(dir, name, config));
  TRIREME_ASSIGN_OR_RETURN(auto parsed, jinja::Template::Parse(source));
  TRIREME_ASSIGN_OR_RETURN(std::string tokens, DefaultVariables(dir, config));
  return std::unique_ptr<ChatTemplate>(new ChatTemplate(std::move(parsed), std::move(tokens)));
}

StatusOr<std::unique_ptr<ChatTemplate>> ChatTemplate::LoadFile(const std::string& file,
                                                               const std::string& dir) {
  TRIREME_ASSIGN_OR_RETURN(const std::string source, ReadFile(file, kMaxConfigBytes));
  auto parsed = jinja::Template::Parse(source);
  if (!parsed.ok()) return std::move(parsed).status().WithContext(file);
  TRIREME_ASSIGN_OR_RETURN(const Json config, ReadObject(dir, "tokenizer_config.json"));
  TRIREME_ASSIGN_OR_RETURN(std::string tokens, DefaultVariables(dir, config));
  return std::unique_ptr<ChatTemplate>(
      new ChatTemplate(std::move(parsed).value(), std::move(tokens)));
}

StatusOr<std::string> ChatTemplate::Render(std::string_view variables_json,
                                           const ChatTemplateOptions& options) const {
  return template_->Render({variables_json, defaults_json_, options.now});
}

}  // namespace trireme
