// SPDX-License-Identifier: Apache-2.0
#include "generate/prompt.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/status.h"
#include "text/utf8.h"

namespace trireme::generate {
namespace {

using Json = nlohmann::ordered_json;

StatusOr<Json> ParseJson(std::string_view field, std::string_view text, Json::value_t type,
                         std::string_view type_name) {
  // nlohmann's parser recurses only into its own stack of containers, so depth is bounded by size.
  Json json = Json::parse(text, nullptr, false);
  if (json.is_discarded()) return InvalidArgument("{} is not valid JSON in UTF-8", field);
  if (json.type() != type) {
    return InvalidArgument("{} must be a JSON {}, but is {}", field, type_name, json.type_name());
  }
  return json;
}

// Most templates add "content" to a string, so a list of text parts becomes one text.
Status FlattenContent(size_t index, Json& message) {
  auto content = message.find("content");
  if (content == message.end() || !content->is_array()) return OkStatus();
  std::string text;
  for (const Json& part : *content) {
    const bool is_text = part.is_object() && part.value("type", Json()) == "text" &&
                         part.contains("text") && part["text"].is_string();
    if (!is_text) {
      return Unimplemented("messages[{}] has content that is not text; only text is supported",
                           index);
    }
    text += part["text"].get_ref<const std::string&>();
  }
  *content = std::move(text);
  return OkStatus();
}

StatusOr<std::string> TemplateVariables(const GenerateRequest& request) {
  TRIREME_ASSIGN_OR_RETURN(
      Json messages, ParseJson("messages", request.messages_json, Json::value_t::array, "array"));
  if (messages.empty()) return InvalidArgument("messages is empty; give at least one message");
  for (size_t i = 0; i < messages.size(); ++i) {
    if (!messages[i].is_object() || !messages[i].contains("role") ||
        !messages[i]["role"].is_string()) {
      return InvalidArgument("messages[{}] must be an object with a \"role\"", i);
    }
    TRIREME_RETURN_IF_ERROR(FlattenContent(i, messages[i]));
  }
  Json variables = Json::object();
  variables["add_generation_prompt"] = true;
  if (!request.template_variables_json.empty()) {
    TRIREME_ASSIGN_OR_RETURN(const Json extra,
                             ParseJson("chat_template_kwargs", request.template_variables_json,
                                       Json::value_t::object, "object"));
    variables.update(extra);
  }
  variables["messages"] = std::move(messages);
  if (!request.tools_json.empty()) {
    TRIREME_ASSIGN_OR_RETURN(variables["tools"],
                             ParseJson("tools", request.tools_json, Json::value_t::array, "array"));
  }
  return variables.dump();
}

StatusOr<std::vector<TokenId>> EncodeMessages(const GenerateRequest& request,
                                              const Tokenizer& tokenizer,
                                              const ChatTemplate* chat_template) {
  if (chat_template == nullptr) {
    return FailedPrecondition(
        "the model has no chat template, so messages cannot become a prompt; send a prompt, or "
        "give a template file");
  }
  TRIREME_ASSIGN_OR_RETURN(const std::string variables, TemplateVariables(request));
  StatusOr<std::string> text = chat_template->Render(variables);
  if (!text.ok()) return text.status().WithContext("chat template");
  // The template wrote the special tokens it wants.
  return tokenizer.Encode(*text, /*add_special_tokens=*/false);
}

void AddVariant(std::vector<TokenId> tokens, std::vector<std::vector<TokenId>>& variants) {
  if (tokens.empty() || std::ranges::count(variants, tokens) > 0) return;
  variants.push_back(std::move(tokens));
}

}  // namespace

Status CheckUtf8(std::string_view field, std::string_view text) {
  const size_t invalid = utf8::FindInvalid(text);
  if (invalid == std::string_view::npos) return OkStatus();
  return InvalidArgument("{} is not UTF-8: byte {} does not belong to a character", field, invalid);
}

StatusOr<std::vector<TokenId>> EncodePrompt(const GenerateRequest& request,
                                            const Tokenizer& tokenizer,
                                            const ChatTemplate* chat_template) {
  const int given =
      request.prompt.has_value() + !request.prompt_ids.empty() + !request.messages_json.empty();
  if (given != 1) {
    return InvalidArgument("give exactly one of prompt, prompt_ids and messages, not {}", given);
  }
  if (!request.prompt_ids.empty()) return request.prompt_ids;
  if (!request.messages_json.empty()) return EncodeMessages(request, tokenizer, chat_template);
  TRIREME_RETURN_IF_ERROR(CheckUtf8("prompt", *request.prompt));
  return tokenizer.Encode(*request.prompt, request.add_special_tokens);
}

StatusOr<std::vector<std::vector<TokenId>>> EncodeWords(std::string_view field,
                                                        const std::vector<std::string>& words,
                                                        const Tokenizer& tokenizer) {
  std::vector<std::vector<TokenId>> variants;
  for (const std::string& word : words) {
    if (word.empty()) continue;
    TRIREME_RETURN_IF_ERROR(CheckUtf8(field, word));
    for (const std::string& text : {word, " " + word}) {
      TRIREME_ASSIGN_OR_RETURN(auto tokens, tokenizer.Encode(text, /*add_special_tokens=*/false));
      AddVariant(std::move(tokens), variants);
    }
    if (const auto id = tokenizer.TokenToId(word)) AddVariant({*id}, variants);
  }
  return variants;
}

StatusOr<std::vector<float>> MergeBias(const GenerateRequest& request, const Tokenizer& tokenizer,
                                       int vocab_size) {
  std::vector<float> bias = request.embedding_bias;
  if (request.logit_bias.empty() && request.embedding_bias_words.empty()) return bias;
  if (bias.empty()) bias.assign(vocab_size, 0.0f);
  const auto add = [&](std::string_view field, TokenId token, float value) {
    if (token < 0 || static_cast<size_t>(token) >= bias.size()) {
      return InvalidArgument("{} names token {}, but the vocabulary has ids 0 to {}", field, token,
                             bias.size() - 1);
    }
    bias[token] += value;
    return OkStatus();
  };
  for (const auto& [token, value] : request.logit_bias) {
    TRIREME_RETURN_IF_ERROR(add("logit_bias", token, value));
  }
  for (const auto& [word, value] : request.embedding_bias_words) {
    TRIREME_RETURN_IF_ERROR(CheckUtf8("embedding_bias_words", word));
    TRIREME_ASSIGN_OR_RETURN(const auto tokens, tokenizer.Encode(word, false));
    for (TokenId token : tokens) {
      TRIREME_RETURN_IF_ERROR(add("embedding_bias_words", token, value));
    }
  }
  return bias;
}

}  // namespace trireme::generate
