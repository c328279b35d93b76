// SPDX-License-Identifier: Apache-2.0
// Fuzz target: bodies of generate requests. What is accepted keeps its promises to the executor's
// own checks, and the reply to it is JSON whatever its strings hold.
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/check.h"
#include "server/llm/generate_json.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace trireme;
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  const auto call = server::ParseGenerateCall(body);
  if (!call.ok()) {
    TRIREME_CHECK(!call.status().message().empty());
    return 0;
  }
  GenerateOutput output;
  output.text = call->request.prompt.value_or("");
  output.tokens = {1, 2};
  output.log_probs = {-0.5f, -1.0f};
  const std::string reply = server::GenerateReply(output, *call, "model", "1");
  TRIREME_CHECK(nlohmann::json::accept(reply));
  return 0;
}
