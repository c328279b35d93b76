// SPDX-License-Identifier: Apache-2.0
#include "server/frontends/deliver_outputs.h"

#include <cstring>

#include "base/status.h"
#include "server/frontends/classification.h"

namespace trireme::server {

bool SingleResponse::Add(InferResponse&& response) {
  const bool is_final = response.is_final;
  if (!response.error.ok()) {
    error_ = std::move(response.error);
  } else if (!response.is_empty) {
    ++count_;
    if (count_ == 1) response_ = std::move(response);
  }
  return is_final;
}

StatusOr<InferResponse> SingleResponse::Result(bool decoupled, std::string_view refusal) {
  if (!error_.ok()) return std::move(error_);
  if (count_ == 1) return std::move(response_);
  if (decoupled) {
    return Unimplemented("{} (it sent {} responses where one is expected)", refusal, count_);
  }
  return Internal("{}, got {}", refusal, count_);
}

Status DeliverOutputs(InferResponse& response, const OutputOptionsMap& options, const Model& model,
                      const SharedMemory& shared_memory) {
  if (options.empty()) return OkStatus();
  const ModelConfig& config = model.config();
  for (Tensor& output : response.outputs) {
    const auto found = options.find(output.name);
    if (found == options.end()) continue;
    const OutputOptions& wanted = found->second;
    if (wanted.classification > 0) {
      const auto labels = config.labels.find(output.name);
      TRIREME_ASSIGN_OR_RETURN(
          output, Classify(output, wanted.classification, config.max_batch_size > 0,
                           labels == config.labels.end() ? std::span<const std::string>()
                                                         : labels->second));
    }
    if (wanted.region.empty()) continue;
    TRIREME_ASSIGN_OR_RETURN(
        const SharedSpan span,
        shared_memory.Find(wanted.region, wanted.region_offset, wanted.region_bytes));
    if (output.data.size() > span.bytes.size()) {
      return InvalidArgument(
          "shared memory size specified with the request for output '{}' ({} bytes) "
          "should be at least {} bytes to hold the results",
          output.name, span.bytes.size(), output.data.size());
    }
    // The output may already lie there: an input of the same region that came back.
    if (!output.data.empty()) {
      std::memmove(span.bytes.data(), output.data.data(), output.data.size());
    }
    output.data = {};
    output.owner = nullptr;
  }
  return OkStatus();
}

}  // namespace trireme::server
