// SPDX-License-Identifier: Apache-2.0
// The generate extension: one JSON object in, one out, over any model. Pure functions.
#pragma once

#include <string>
#include <string_view>

#include "server/core/inference.h"
#include "server/repository/model_config.h"

namespace trireme::server {

// Keys that name an input of the model become tensors (a scalar or a list; the innermost -1 of the
// shape takes the elements), `parameters` is looked through as if at top level, the rest become
// request parameters.
StatusOr<InferRequest> ParseGenerateRequest(std::string_view body, const ModelConfig& config);

// Keys in alphabetical order; one element is a scalar, several are a flat list.
StatusOr<std::string> GenerateReply(const InferResponse& response, std::string_view id,
                                    std::string_view model_name, int64_t model_version);

}  // namespace trireme::server
