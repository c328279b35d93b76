// SPDX-License-Identifier: Apache-2.0
// Protobuf messages of the inference protocol to and from the core's types. Pure functions.
#pragma once

#include <memory>
#include <string>

#include "grpc_service.pb.h"
#include "server/core/inference.h"
#include "server/core/shared_memory.h"
#include "server/core/statistics.h"
#include "server/frontends/output_options.h"
#include "server/repository/model_config.h"

namespace trireme::server {

struct GrpcInferRequest {
  InferRequest request;
  OutputOptionsMap outputs;
  bool empty_final_response = false;  // wanted on streams of decoupled models
};

// "" is -1, the highest version; INVALID_ARGUMENT for what is not a number.
StatusOr<int64_t> ParseGrpcVersion(const std::string& version);

// The tensors refer to `from`, which `owner` keeps alive.
StatusOr<GrpcInferRequest> FromProto(const inference::ModelInferRequest& from,
                                     std::shared_ptr<const void> owner,
                                     const SharedMemory& shared_memory);

struct GrpcReplyOptions {
  const InferRequest& request;
  int64_t model_version;
  const OutputOptionsMap& outputs;
};
void ToProto(const InferResponse& from, const GrpcReplyOptions& options,
             inference::ModelInferResponse& to);

void ToProto(const StatisticsSnapshot& from, inference::ModelStatistics& to);

}  // namespace trireme::server
