// SPDX-License-Identifier: Apache-2.0
// The bodies of OpenAI's chat and completion requests, field by field. Pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/generator.h"

namespace trireme::server {

enum class OpenAiKind { kChat, kCompletion };

struct OpenAiRequest {
  OpenAiKind kind = OpenAiKind::kChat;
  std::string model;
  bool stream = false;
  bool include_usage = false;  // of a stream
  bool echo = false;
  bool log_probs = false;
  int num_top_log_probs = 0;
  std::optional<uint64_t> seed;
  // One for each prompt, alike but for the prompt.
  std::vector<GenerateRequest> generations;

  int choices_per_prompt() const { return generations.front().sampling.num_return_sequences; }
};

// INVALID_ARGUMENT for what is wrong, unknown or does not exist here; `param` becomes the name of the
// field at fault, or "".
StatusOr<OpenAiRequest> ParseOpenAiRequest(OpenAiKind kind, std::string_view body,
                                           std::string& param);

// The field that an error of the generation begins with, as its checks do; "" when it is none of
// this kind of request.
std::string_view FieldNamedBy(OpenAiKind kind, std::string_view message);

}  // namespace trireme::server
