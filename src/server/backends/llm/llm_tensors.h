// SPDX-License-Identifier: Apache-2.0
// The tensors of text models: what they are called, and how they become a request and come from an
// output. Pure functions.
#pragma once

#include <vector>

#include "server/core/inference.h"
#include "server/repository/model_config.h"
#include "trireme/generator.h"

namespace trireme::server {

std::vector<TensorConfig> LlmInputs();
std::vector<TensorConfig> LlmOutputs();

// A validated request's tensors as a generation. INVALID_ARGUMENT names the tensor; parameters with
// the names of features that do not exist are UNIMPLEMENTED.
StatusOr<GenerateRequest> ToGenerateRequest(const InferRequest& request);

// The outputs of one response: one text, or with `outputs` of several sequences all of them.
InferResponse ToInferResponse(std::span<const GenerateOutput> outputs,
                              const GenerateRequest& request);

}  // namespace trireme::server
