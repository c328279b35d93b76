// SPDX-License-Identifier: Apache-2.0
// Fuzz target: infer requests. The first two bytes say where the JSON ends, so that the binary
// section is met too; what is accepted must also be writable as a reply.
#include <cstddef>
#include <cstdint>

#include "server/core/model.h"
#include "server/frontends/infer_json.h"
#include "server/frontends/infer_reply.h"

namespace {

using namespace trireme::server;

const ModelConfig& Config() {
  static const auto* config = [] {
    std::vector<std::string> warnings;
    return new ModelConfig(
        ParseModelConfig("name: 'm' max_batch_size: 4 "
                         "input { name: 'a' data_type: TYPE_STRING dims: -1 optional: true } "
                         "input { name: 'b' data_type: TYPE_BF16 dims: [2, -1] optional: true }",
                         "", warnings)
            .value());
  }();
  return *config;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 2, size - 2);
  InferBody body{.bytes = bytes, .owner = nullptr, .json_bytes = {}, .max_json_bytes = 1 << 16};
  const int64_t length = data[0] + 256 * data[1];
  if (length <= static_cast<int64_t>(bytes.size())) body.json_bytes = length;
  const SharedMemory shared_memory(true);
  const auto parsed = ParseInferRequest(body, Config(), shared_memory);
  if (!parsed.ok()) return 0;
  InferResponse response;
  for (const Tensor& input : parsed->request.inputs) {
    if (CheckByteSize(input).ok()) response.outputs.push_back(input);
  }
  (void)InferReply(response, {parsed->request.id, "m", 1, parsed->outputs, parsed->binary_outputs})
      .ok();
  return 0;
}
