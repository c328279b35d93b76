// SPDX-License-Identifier: Apache-2.0
#include "server/frontends/openai/openai_reply.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

#include "server/core/json_text.h"
#include "text/utf8.h"

namespace trireme::server {
namespace {

// Of a token the client can still compute with: JSON has no infinity.
constexpr float kLeastLogProb = -9999.0f;

std::string_view FinishReasonText(FinishReason reason) {
  return reason == FinishReason::kLength ? "length" : "stop";
}

// {"id":...,"model":...
void AppendHead(std::string& to, const OpenAiAnswer& answer, bool is_event) {
  to += "{\"id\":";
  AppendJsonString(to, answer.id);
  to += ",\"object\":\"";
  if (answer.kind == OpenAiKind::kCompletion) {
    to += "text_completion";
  } else {
    to += is_event ? "chat.completion.chunk" : "chat.completion";
  }
  to += "\",\"created\":";
  AppendJsonNumber(to, answer.created);
  to += ",\"model\":";
  AppendJsonString(to, answer.model);
}

// "token":...,"logprob":...,"bytes":[...]
void AppendToken(std::string& to, const OpenAiLogProb& token) {
  to += "\"token\":";
  AppendJsonString(to, token.bytes);
  to += ",\"logprob\":";
  AppendJsonNumber(to, token.log_prob);
  to += ",\"bytes\":[";
  for (size_t i = 0; i < token.bytes.size(); ++i) {
    if (i > 0) to += ',';
    AppendJsonNumber(to, static_cast<int64_t>(static_cast<unsigned char>(token.bytes[i])));
  }
  to += ']';
}

template <typename Items, typename Append>
void AppendList(std::string& to, const Items& items, Append append) {
  to += '[';
  bool first = true;
  for (const auto& item : items) {
    if (!first) to += ',';
    first = false;
    append(item);
  }
  to += ']';
}

void AppendChatLogProbs(std::string& to, const OpenAiChoice& choice) {
  to += "{\"content\":";
  AppendList(to, choice.tokens, [&](const OpenAiToken& token) {
    to += '{';
    AppendToken(to, token.chosen);
    to += ",\"top_logprobs\":";
    AppendList(to, token.top, [&](const OpenAiLogProb& top) {
      to += '{';
      AppendToken(to, top);
      to += '}';
    });
    to += '}';
  });
  to += ",\"refusal\":null}";
}

// The name of a token as a key: bytes that are no text of their own are written out.
std::string KeyOf(const OpenAiLogProb& token) {
  if (utf8::FindInvalid(token.bytes) == std::string_view::npos) return token.bytes;
  std::string key = "bytes:";
  for (const char c : token.bytes) key += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
  return key;
}

void AppendTopObject(std::string& to, const OpenAiToken& token) {
  std::vector<std::pair<std::string, float>> entries;
  const auto add = [&](const OpenAiLogProb& of) {
    std::string key = KeyOf(of);
    const bool known = std::ranges::any_of(entries, [&](auto& e) { return e.first == key; });
    if (!known) entries.emplace_back(std::move(key), of.log_prob);
  };
  for (const OpenAiLogProb& top : token.top) add(top);
  add(token.chosen);
  to += '{';
  for (size_t i = 0; i < entries.size(); ++i) {
    if (i > 0) to += ',';
    AppendJsonString(to, entries[i].first);
    to += ':';
    AppendJsonNumber(to, entries[i].second);
  }
  to += '}';
}

void AppendCompletionLogProbs(std::string& to, const OpenAiChoice& choice) {
  to += "{\"tokens\":";
  AppendList(to, choice.tokens,
             [&](const OpenAiToken& token) { AppendJsonString(to, KeyOf(token.chosen)); });
  to += ",\"token_logprobs\":";
  AppendList(to, choice.tokens,
             [&](const OpenAiToken& token) { AppendJsonNumber(to, token.chosen.log_prob); });
  to += ",\"top_logprobs\":";
  AppendList(to, choice.tokens, [&](const OpenAiToken& token) { AppendTopObject(to, token); });
  to += ",\"text_offset\":";
  int64_t offset = choice.text_offset;
  AppendList(to, choice.tokens, [&](const OpenAiToken& token) {
    AppendJsonNumber(to, offset);
    offset += CountCharacters(token.chosen.bytes);
  });
  to += '}';
}

// ,"logprobs":...,"finish_reason":...}
void AppendChoiceEnd(std::string& to, const OpenAiAnswer& answer, const OpenAiChoice& choice) {
  to += ",\"logprobs\":";
  if (!answer.log_probs || choice.tokens.empty()) {
    to += "null";
  } else if (answer.kind == OpenAiKind::kChat) {
    AppendChatLogProbs(to, choice);
  } else {
    AppendCompletionLogProbs(to, choice);
  }
  to += ",\"finish_reason\":";
  if (choice.finish_reason == FinishReason::kNotFinished) {
    to += "null}";
  } else {
    to += '"';
    to += FinishReasonText(choice.finish_reason);
    to += "\"}";
  }
}

void AppendIndex(std::string& to, int index) {
  to += "{\"index\":";
  AppendJsonNumber(to, static_cast<int64_t>(index));
}

void AppendUsage(std::string& to, const OpenAiUsage& usage) {
  to += ",\"usage\":{\"prompt_tokens\":";
  AppendJsonNumber(to, usage.prompt_tokens);
  to += ",\"completion_tokens\":";
  AppendJsonNumber(to, usage.completion_tokens);
  to += ",\"total_tokens\":";
  AppendJsonNumber(to, usage.prompt_tokens + usage.completion_tokens);
  to += ",\"prompt_tokens_details\":{\"cached_tokens\":";
  AppendJsonNumber(to, usage.cached_tokens);
  to += "}}";
}

std::string BeginEvent(const OpenAiAnswer& answer) {
  std::string event = "data: ";
  AppendHead(event, answer, /*is_event=*/true);
  event += ",\"choices\":[";
  return event;
}

std::string EndEvent(const OpenAiAnswer& answer, std::string event) {
  event += answer.include_usage ? "],\"usage\":null}\n\n" : "]}\n\n";
  return event;
}

struct ErrorClass {
  int http_status;
  const char* type;
  const char* code;  // null: none
};

ErrorClass ClassOf(StatusCode code) {
  switch (code) {
    case StatusCode::kNotFound: return {404, "invalid_request_error", "model_not_found"};
    case StatusCode::kResourceExhausted: return {429, "rate_limit_error", "queue_full"};
    case StatusCode::kUnavailable:
    case StatusCode::kCancelled:
    case StatusCode::kDeadlineExceeded: return {503, "service_unavailable_error", nullptr};
    case StatusCode::kInternal: return {500, "server_error", nullptr};
    default: return {400, "invalid_request_error", nullptr};
  }
}

}  // namespace

int64_t CountCharacters(std::string_view text) {
  return std::ranges::count_if(
      text, [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; });
}

std::vector<OpenAiToken> LogProbsOf(const GenerateOutput& output, const Tokenizer& tokenizer,
                                    int num_top) {
  std::vector<OpenAiToken> tokens;
  if (output.tokens.empty()) return tokens;
  const size_t vocab_size = output.generation_logits.size() / output.tokens.size();
  const size_t num_listed = std::min(static_cast<size_t>(num_top), vocab_size);
  std::vector<TokenId> order(num_listed > 0 ? vocab_size : 0);
  for (size_t i = 0; i < output.tokens.size(); ++i) {
    const auto row = std::span(output.generation_logits).subspan(i * vocab_size, vocab_size);
    const auto chosen = static_cast<size_t>(output.tokens[i]);
    if (chosen >= row.size()) continue;
    const float largest = *std::ranges::max_element(row);
    double sum = 0;
    for (const float logit : row) sum += std::exp(logit - largest);
    const double log_mass = largest + std::log(sum);
    const auto entry = [&](TokenId id) {
      const auto value = static_cast<float>(row[static_cast<size_t>(id)] - log_mass);
      return OpenAiLogProb{tokenizer.TokenBytes(id), std::max(value, kLeastLogProb)};
    };
    OpenAiToken token{.chosen = entry(output.tokens[i]), .top = {}};
    std::iota(order.begin(), order.end(), 0);
    std::partial_sort(order.begin(), order.begin() + static_cast<int64_t>(num_listed), order.end(),
                      [&](TokenId a, TokenId b) {
                        const float x = row[static_cast<size_t>(a)];
                        const float y = row[static_cast<size_t>(b)];
                        return x != y ? x > y : a < b;
                      });
    for (size_t k = 0; k < num_listed; ++k) token.top.push_back(entry(order[k]));
    tokens.push_back(std::move(token));
  }
  return tokens;
}

std::string WholeReply(const OpenAiAnswer& answer, std::span<const OpenAiChoice> choices,
                       const OpenAiUsage& usage) {
  std::string json;
  AppendHead(json, answer, /*is_event=*/false);
  json += ",\"choices\":";
  AppendList(json, choices, [&](const OpenAiChoice& choice) {
    AppendIndex(json, choice.index);
    if (answer.kind == OpenAiKind::kChat) {
      json += ",\"message\":{\"role\":\"assistant\",\"content\":";
      AppendJsonString(json, choice.text);
      json += ",\"refusal\":null}";
    } else {
      json += ",\"text\":";
      AppendJsonString(json, choice.text);
    }
    AppendChoiceEnd(json, answer, choice);
  });
  AppendUsage(json, usage);
  json += '}';
  return json;
}

std::string RoleEvent(const OpenAiAnswer& answer, int index) {
  std::string event = BeginEvent(answer);
  AppendIndex(event, index);
  event += ",\"delta\":{\"role\":\"assistant\",\"content\":\"\"}";
  AppendChoiceEnd(event, answer, {});
  return EndEvent(answer, std::move(event));
}

std::string ChoiceEvent(const OpenAiAnswer& answer, const OpenAiChoice& choice) {
  std::string event = BeginEvent(answer);
  AppendIndex(event, choice.index);
  if (answer.kind == OpenAiKind::kCompletion) {
    event += ",\"text\":";
    AppendJsonString(event, choice.text);
  } else if (choice.text.empty() && choice.tokens.empty()) {
    event += ",\"delta\":{}";
  } else {
    event += ",\"delta\":{\"content\":";
    AppendJsonString(event, choice.text);
    event += '}';
  }
  AppendChoiceEnd(event, answer, choice);
  return EndEvent(answer, std::move(event));
}

std::string UsageEvent(const OpenAiAnswer& answer, const OpenAiUsage& usage) {
  std::string event = BeginEvent(answer) + "]";
  AppendUsage(event, usage);
  event += "}\n\n";
  return event;
}

OpenAiError MakeOpenAiError(const Status& status, std::string_view param) {
  const ErrorClass error = ClassOf(status.code());
  const Json json = {{"error",
                      {{"message", std::string(status.message())},
                       {"type", error.type},
                       {"param", param.empty() ? Json() : Json(std::string(param))},
                       {"code", error.code == nullptr ? Json() : Json(error.code)}}}};
  return {error.http_status, json.dump(-1, ' ', false, Json::error_handler_t::replace)};
}

HttpResponse OpenAiErrorResponse(const Status& status, std::string_view param) {
  OpenAiError error = MakeOpenAiError(status, param);
  HttpResponse response;
  response.status = error.http_status;
  response.content_type = "application/json";
  response.body = std::move(error.json);
  return response;
}

}  // namespace trireme::server
