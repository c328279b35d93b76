// SPDX-License-Identifier: Apache-2.0
// The generate extension's JSON for text models: requests in, replies out. Pure functions.
#pragma once

#include <string>
#include <string_view>

#include "trireme/generator.h"

namespace trireme::server {

struct GenerateCall {
  std::string id;  // "": none given
  GenerateRequest request;
};

// Reads one JSON object with the input tensors of the ensemble (text_input, max_tokens, ...) as keys,
// at top level or under "parameters". Scalars and one-element lists are alike. Keys of features that
// do not exist are UNIMPLEMENTED by name; other unknown keys are custom parameters, which text models
// do not read, and must be scalars.
StatusOr<GenerateCall> ParseGenerateCall(std::string_view body);

// The reply for one output, keys in alphabetical order.
std::string GenerateReply(const GenerateOutput& output, const GenerateCall& call,
                          const std::string& model_name, const std::string& model_version);

}  // namespace trireme::server
