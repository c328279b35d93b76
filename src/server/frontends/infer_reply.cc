// SPDX-License-Identifier: Apache-2.0
#include "server/frontends/infer_reply.h"

#include <nlohmann/json.hpp>

#include "server/core/json_text.h"

#include "base/status.h"

namespace trireme::server {
namespace {

void AppendShape(std::string& to, const Dims& shape) {
  to += ",\"shape\":";
  to += ShapeText(shape);
}

// {"name":...}; adds the tensor's bytes to `binary` when they go behind the JSON.
Status AppendOutput(std::string& to, const Tensor& output, const ReplyOptions& options,
                    std::vector<std::string_view>& binary) {
  const auto found = options.outputs.find(output.name);
  const OutputOptions* listed = found == options.outputs.end() ? nullptr : &found->second;
  to += "{\"name\":";
  AppendJsonString(to, output.name);
  to += ",\"datatype\":\"";
  to += DataTypeName(output.type);
  to += '"';
  AppendShape(to, output.shape);
  if (listed != nullptr && !listed->region.empty()) {
    to += ",\"parameters\":{\"shared_memory_region\":";
    AppendJsonString(to, listed->region);
    if (listed->region_offset > 0) {
      to += ",\"shared_memory_offset\":";
      AppendJsonNumber(to, listed->region_offset);
    }
    to += ",\"shared_memory_byte_size\":";
    AppendJsonNumber(to, listed->region_bytes);
    to += '}';
  } else if (listed != nullptr ? listed->binary : options.binary_outputs) {
    to += ",\"parameters\":{\"binary_data_size\":";
    AppendJsonNumber(to, static_cast<uint64_t>(output.data.size()));
    to += '}';
    binary.push_back(output.data);
  } else {
    to += ",\"data\":[";
    TRIREME_RETURN_IF_ERROR(AppendJsonElements(to, output));
    to += ']';
  }
  to += '}';
  return OkStatus();
}

void AppendParameters(std::string& to, const Parameters& parameters) {
  if (parameters.empty()) return;
  to += ",\"parameters\":{";
  bool first = true;
  for (const auto& [key, value] : parameters) {
    if (!first) to += ',';
    first = false;
    AppendJsonString(to, key);
    to += ':';
    AppendJsonParameter(to, value);
  }
  to += '}';
}

}  // namespace

StatusOr<HttpResponse> InferReply(const InferResponse& response, const ReplyOptions& options) {
  std::string json = "{";
  if (!options.id.empty()) {
    json += "\"id\":";
    AppendJsonString(json, options.id);
    json += ',';
  }
  json += "\"model_name\":";
  AppendJsonString(json, options.model_name);
  json += ",\"model_version\":\"";
  AppendJsonNumber(json, options.model_version);
  json += '"';
  AppendParameters(json, response.parameters);
  json += ",\"outputs\":[";
  std::vector<std::string_view> binary;
  for (size_t i = 0; i < response.outputs.size(); ++i) {
    if (i > 0) json += ',';
    TRIREME_RETURN_IF_ERROR(AppendOutput(json, response.outputs[i], options, binary));
  }
  json += "]}";

  HttpResponse reply;
  size_t binary_bytes = 0;
  for (const std::string_view bytes : binary) binary_bytes += bytes.size();
  if (binary_bytes == 0) {
    reply.content_type = "application/json";
    reply.body = std::move(json);
    return reply;
  }
  reply.content_type = "application/octet-stream";
  reply.headers["Inference-Header-Content-Length"] = std::to_string(json.size());
  reply.body = std::move(json);
  reply.body.reserve(reply.body.size() + binary_bytes);
  for (const std::string_view bytes : binary) reply.body += bytes;
  return reply;
}

}  // namespace trireme::server
