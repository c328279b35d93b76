// SPDX-License-Identifier: Apache-2.0
// Fuzz target: generate requests; the tensors of an accepted one have the bytes their shapes say.
#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "server/frontends/generate_json.h"

namespace {

using namespace trireme::server;

const ModelConfig& Config() {
  static const auto* config = [] {
    std::vector<std::string> warnings;
    return new ModelConfig(
        ParseModelConfig("name: 'm' max_batch_size: 4 "
                         "input { name: 'a' data_type: TYPE_STRING dims: -1 } "
                         "input { name: 'b' data_type: TYPE_INT16 dims: [2, -1] } "
                         "input { name: 'c' data_type: TYPE_FP16 dims: 1 }",
                         "", warnings)
            .value());
  }();
  return *config;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  const auto request = ParseGenerateRequest(body, Config());
  if (!request.ok()) return 0;
  InferResponse response;
  for (const Tensor& input : request->inputs) {
    TRIREME_CHECK(CheckByteSize(input).ok());
    response.outputs.push_back(input);
  }
  response.parameters = request->parameters;
  TRIREME_CHECK(GenerateReply(response, request->id, "m", 1).ok());
  return 0;
}
