// SPDX-License-Identifier: Apache-2.0
// Infer requests of KServe v2 over HTTP: JSON, with tensors inside it, behind it as bytes, or in
// shared memory. Pure functions; what they make refers to the bytes they were given.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "server/core/inference.h"
#include "server/core/shared_memory.h"
#include "server/frontends/output_options.h"
#include "server/repository/model_config.h"

namespace trireme::server {

struct InferBody {
  std::string_view bytes;
  std::shared_ptr<const void> owner;  // keeps `bytes` alive
  // The header Inference-Header-Content-Length: where the JSON ends.
  std::optional<int64_t> json_bytes;
  int64_t max_json_bytes = 0;  // also of tensors made from JSON
};

struct HttpInferRequest {
  InferRequest request;
  OutputOptionsMap outputs;
  bool binary_outputs = false;  // of outputs not listed
};

StatusOr<HttpInferRequest> ParseInferRequest(const InferBody& body, const ModelConfig& config,
                                             const SharedMemory& shared_memory);

// The value of that header. INVALID_ARGUMENT unless it is a number within the body.
StatusOr<int64_t> ParseJsonLength(const std::string& text, size_t body_bytes);

}  // namespace trireme::server
