// SPDX-License-Identifier: Apache-2.0
// The answers of OpenAI's routes as JSON and events. Pure functions.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/frontends/http_server.h"
#include "server/frontends/openai/openai_request.h"
#include "trireme/generator.h"

namespace trireme::server {

// A token and its natural log probability by the model alone: before bias, penalties, temperature.
struct OpenAiLogProb {
  std::string bytes;
  float log_prob = 0;
};
struct OpenAiToken {
  OpenAiLogProb chosen;
  std::vector<OpenAiLogProb> top;  // the most probable, best first
};

// The tokens of `output` by its generation logits.
std::vector<OpenAiToken> LogProbsOf(const GenerateOutput& output, const Tokenizer& tokenizer,
                                    int num_top);

// What all parts of one answer carry.
struct OpenAiAnswer {
  OpenAiKind kind = OpenAiKind::kChat;
  std::string id;
  int64_t created = 0;  // seconds since the Unix epoch
  std::string model;
  bool log_probs = false;
  bool include_usage = false;  // of a stream
};

// A whole choice, or what came of it since the last event.
struct OpenAiChoice {
  int index = 0;
  std::string text;
  std::vector<OpenAiToken> tokens;  // with log_probs
  FinishReason finish_reason = FinishReason::kNotFinished;
  int64_t text_offset = 0;  // where the first of `tokens` begins, in characters
};

struct OpenAiUsage {
  int64_t prompt_tokens = 0;
  int64_t completion_tokens = 0;
  int64_t cached_tokens = 0;
};

std::string WholeReply(const OpenAiAnswer& answer, std::span<const OpenAiChoice> choices,
                       const OpenAiUsage& usage);

// Events, "data: ...\n\n". RoleEvent begins a choice of a chat.
std::string RoleEvent(const OpenAiAnswer& answer, int index);
std::string ChoiceEvent(const OpenAiAnswer& answer, const OpenAiChoice& choice);
std::string UsageEvent(const OpenAiAnswer& answer, const OpenAiUsage& usage);

// {"error": {"message", "type", "param", "code"}}; `param` may be empty.
struct OpenAiError {
  int http_status = 500;
  std::string json;
};
OpenAiError MakeOpenAiError(const Status& status, std::string_view param = "");
HttpResponse OpenAiErrorResponse(const Status& status, std::string_view param = "");

// Characters of UTF-8 text.
int64_t CountCharacters(std::string_view text);

}  // namespace trireme::server
