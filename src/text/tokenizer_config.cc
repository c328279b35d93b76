// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer_config.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "base/mapped_file.h"
#include "text/json_fields.h"
#include "text/vocab.h"

namespace trireme {
namespace {

using nlohmann::json;

// Null when the file is not there.
StatusOr<json> ReadJson(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) return json();
  constexpr uint64_t kMaxBytes = 64 << 20;
  TRIREME_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxBytes));
  json value = json::parse(text, nullptr, false);
  if (value.is_discarded()) return InvalidArgument("{} is not valid JSON", path);
  if (!value.is_object()) return InvalidArgument("{} is not a JSON object", path);
  return value;
}

// A token is a string or an object with its content.
std::optional<std::string> TokenContent(const json& value) {
  if (const auto* text = value.get_ptr<const std::string*>()) return *text;
  if (const std::string* content = StringMember(value, "content")) return *content;
  return std::nullopt;
}

void ReadToken(const json& file, const char* key, std::optional<std::string>& token) {
  const json& value = Member(file, key);
  if (!value.is_null()) token = TokenContent(value);
}

void ReadBool(const json& file, const char* key, std::optional<bool>& value) {
  const json& member = Member(file, key);
  if (member.is_boolean()) value = member.get<bool>();
}

StatusOr<int32_t> CheckedId(int64_t id, std::string_view content) {
  if (id < 0 || id >= Vocab::kMaxId)
    return InvalidArgument("added token '{}' has the id {}; ids must lie in [0, {})", content, id,
                           Vocab::kMaxId);
  return static_cast<int32_t>(id);
}

Status ReadAddedTokensDecoder(const json& file, TokenizerConfig& config) {
  const json& tokens = Member(file, "added_tokens_decoder");
  if (!tokens.is_object()) return OkStatus();
  for (const auto& [key, value] : tokens.items()) {
    AddedToken token;
    token.content = StringOr(value, "content", "");
    int64_t id = -1;
    std::from_chars(key.data(), key.data() + key.size(), id);
    TRIREME_ASSIGN_OR_RETURN(token.id, CheckedId(id, token.content));
    token.single_word = BoolOr(value, "single_word", false);
    token.lstrip = BoolOr(value, "lstrip", false);
    token.rstrip = BoolOr(value, "rstrip", false);
    token.special = BoolOr(value, "special", false);
    token.normalized = BoolOr(value, "normalized", !token.special);
    config.added_tokens.push_back(std::move(token));
  }
  return OkStatus();
}

// added_tokens.json: content -> id.
Status ReadAddedTokensFile(const json& file, TokenizerConfig& config) {
  if (!file.is_object()) return OkStatus();
  for (const auto& [content, id] : file.items()) {
    if (!id.is_number_integer())
      return InvalidArgument("added_tokens.json: '{}' has no id", content);
    AddedToken token;
    token.content = content;
    TRIREME_ASSIGN_OR_RETURN(token.id, CheckedId(id.get<int64_t>(), content));
    token.normalized = true;
    const bool known = std::any_of(config.added_tokens.begin(), config.added_tokens.end(),
                                   [&](const AddedToken& t) { return t.content == token.content; });
    if (!known) config.added_tokens.push_back(std::move(token));
  }
  return OkStatus();
}

void ReadNamedTokens(const json& file, TokenizerConfig& config) {
  ReadToken(file, "bos_token", config.bos_token);
  ReadToken(file, "eos_token", config.eos_token);
  ReadToken(file, "pad_token", config.pad_token);
  ReadToken(file, "unk_token", config.unk_token);
  ReadToken(file, "cls_token", config.cls_token);
  ReadToken(file, "sep_token", config.sep_token);
  const json& more = Member(file, "additional_special_tokens");
  if (!more.is_array()) return;
  for (const json& item : more)
    if (const auto content = TokenContent(item))
      config.additional_special_tokens.push_back(*content);
}

// Ids of `key`, one or a list of them; -1 stands for none. A value of another kind is an error: taken
// for none, it would show only in texts that do not end.
StatusOr<std::vector<int32_t>> ReadIdList(const json& file, const char* key) {
  const json& value = Member(file, key);
  std::vector<int32_t> ids;
  if (value.is_null()) return ids;
  for (const json& id : value.is_array() ? value : json::array({value})) {
    if (!id.is_number_integer() || id.get<int64_t>() < -1 || id.get<int64_t>() >= Vocab::kMaxId) {
      return InvalidArgument("'{}' holds {}, which is no token id", key,
                             id.dump(-1, ' ', false, json::error_handler_t::replace));
    }
    if (id.get<int64_t>() >= 0) ids.push_back(id.get<int32_t>());
  }
  return ids;
}

Status ReadIds(const json& file, TokenizerConfig& config) {
  TRIREME_ASSIGN_OR_RETURN(const std::vector<int32_t> bos, ReadIdList(file, "bos_token_id"));
  TRIREME_ASSIGN_OR_RETURN(const std::vector<int32_t> pad, ReadIdList(file, "pad_token_id"));
  TRIREME_ASSIGN_OR_RETURN(std::vector<int32_t> eos, ReadIdList(file, "eos_token_id"));
  if (!bos.empty()) config.bos_id = bos.front();
  if (!pad.empty()) config.pad_id = pad.front();
  if (!Member(file, "eos_token_id").is_null()) config.eos_ids = std::move(eos);
  return OkStatus();
}

std::optional<int32_t> IdOf(const std::optional<std::string>& content,
                            const TokenizerParts& parts) {
  if (!content) return std::nullopt;
  if (const AddedToken* token = parts.added.Find(*content)) return token->id;
  return parts.model->TokenToId(*content);
}

// Named tokens of the vocabulary are special and are recognised in a text.
void MarkSpecial(const std::string& content, TokenizerParts& parts) {
  if (const AddedToken* found = parts.added.Find(content)) {
    AddedToken token = *found;
    token.special = true;
    parts.added.Add(std::move(token));
    return;
  }
  const std::optional<int32_t> id = parts.model->TokenToId(content);
  if (id) parts.added.Add({.content = content, .id = *id, .special = true});
}

void PutRound(std::vector<int32_t>& ids, bool front, std::optional<int32_t> id, bool wanted) {
  if (!id) return;
  const bool has = !ids.empty() && (front ? ids.front() : ids.back()) == *id;
  if (has == wanted) return;
  const auto at = front ? ids.begin() : ids.end() - (wanted ? 0 : 1);
  if (wanted)
    ids.insert(at, *id);
  else
    ids.erase(at);
}

// Tokens that the published code of a prompt format adds behind the vocabulary, without a file
// that lists them. The chat template shows that a folder is of that format.
struct PromptFormat {
  std::string_view template_begin;
  std::vector<std::string_view> tokens;
  std::vector<std::string_view> prefix;
};

const std::vector<PromptFormat>& PromptFormats() {
  static const std::vector<PromptFormat> kFormats = {
      {"[gMASK]sop",
       {"[MASK]", "[gMASK]", "[sMASK]", "sop", "eop", "<|system|>", "<|user|>", "<|assistant|>",
        "<|observation|>"},
       {"[gMASK]", "sop"}}};
  return kFormats;
}

void AddPromptFormat(const TokenizerConfig& config, TokenizerParts& parts) {
  if (parts.layout == Layout::kTokenizerJson || !config.added_tokens.empty()) return;
  for (const PromptFormat& format : PromptFormats()) {
    if (config.chat_template.find(format.template_begin) == std::string::npos) continue;
    int32_t next = parts.model->id_limit();
    for (const std::string_view token : format.tokens) {
      const std::string content(token);
      const int32_t id = parts.model->TokenToId(content).value_or(next);
      if (id == next) ++next;
      parts.added.Add({.content = content, .id = id, .special = true});
    }
    for (const std::string_view token : format.prefix)
      parts.prefix_ids.push_back(parts.added.Find(token)->id);
    return;
  }
}

// What goes round a text: what the configuration says, else what the layout's readers do.
void PutSpecialsRound(const TokenizerConfig& config, TokenizerParts& parts) {
  const bool prompt_format = !parts.prefix_ids.empty();
  std::optional<bool> add_bos = config.add_bos_token, add_eos = config.add_eos_token;
  if (parts.layout == Layout::kSentencePiece && !prompt_format) {
    if (!add_bos) add_bos = parts.bos_id.has_value();
    if (!add_eos) add_eos = !parts.bos_id.has_value();
  }
  if (parts.layout == Layout::kTiktoken && !add_bos)
    add_bos = parts.bos_id && parts.bos_id != parts.eos_id;
  const std::optional<int32_t> cls = IdOf(config.cls_token, parts),
                               sep = IdOf(config.sep_token, parts);
  if (parts.layout == Layout::kVocabFiles && cls && sep) {
    parts.prefix_ids = {*cls};
    parts.suffix_ids = {*sep};
    return;
  }
  if (add_bos) PutRound(parts.prefix_ids, true, parts.bos_id, *add_bos);
  if (add_eos) PutRound(parts.suffix_ids, false, parts.eos_id, *add_eos);
}

}  // namespace

StatusOr<TokenizerConfig> ReadTokenizerConfig(const std::string& dir) {
  TokenizerConfig config;
  TRIREME_ASSIGN_OR_RETURN(const json main, ReadJson(dir + "/tokenizer_config.json"));
  TRIREME_ASSIGN_OR_RETURN(const json map, ReadJson(dir + "/special_tokens_map.json"));
  TRIREME_ASSIGN_OR_RETURN(const json added, ReadJson(dir + "/added_tokens.json"));
  TRIREME_ASSIGN_OR_RETURN(const json model, ReadJson(dir + "/config.json"));
  TRIREME_ASSIGN_OR_RETURN(const json generation, ReadJson(dir + "/generation_config.json"));
  ReadNamedTokens(map, config);
  ReadNamedTokens(main, config);
  ReadBool(main, "add_bos_token", config.add_bos_token);
  ReadBool(main, "add_eos_token", config.add_eos_token);
  ReadBool(main, "legacy", config.legacy);
  ReadBool(main, "add_prefix_space", config.add_prefix_space);
  ReadBool(main, "do_lower_case", config.lower_case);
  config.chat_template = StringOr(main, "chat_template", "");
  TRIREME_RETURN_IF_ERROR(ReadAddedTokensDecoder(main, config).WithContext(dir));
  TRIREME_RETURN_IF_ERROR(ReadAddedTokensFile(added, config).WithContext(dir));
  TRIREME_RETURN_IF_ERROR(ReadIds(model, config).WithContext(dir + "/config.json"));
  TRIREME_RETURN_IF_ERROR(ReadIds(generation, config).WithContext(dir + "/generation_config.json"));
  return config;
}

Status ApplyTokenizerConfig(const TokenizerConfig& config, TokenizerParts& parts) {
  AddPromptFormat(config, parts);
  for (AddedToken token : config.added_tokens) {
    token.id = parts.model->TokenToId(token.content).value_or(token.id);
    parts.added.Add(std::move(token));
  }
  for (const auto* named : {&config.bos_token, &config.eos_token, &config.pad_token,
                            &config.unk_token, &config.cls_token, &config.sep_token})
    if (*named) MarkSpecial(**named, parts);
  for (const std::string& content : config.additional_special_tokens) MarkSpecial(content, parts);
  parts.end_ids = config.eos_ids;
  const auto decide = [&](const std::optional<std::string>& name, std::optional<int32_t> fallback,
                          std::optional<int32_t>& id) {
    if (const auto named = IdOf(name, parts)) id = named;
    if (!id && fallback) id = fallback;
  };
  decide(config.bos_token, config.bos_id, parts.bos_id);
  decide(config.eos_token, config.eos_ids.empty() ? std::nullopt : std::optional(config.eos_ids[0]),
         parts.eos_id);
  decide(config.pad_token, config.pad_id, parts.pad_id);
  PutSpecialsRound(config, parts);
  return OkStatus();
}

}  // namespace trireme
