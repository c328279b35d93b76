// SPDX-License-Identifier: Apache-2.0
// Sampling parameters in the names of vLLM, as its Triton backend takes them. Pure functions.
#pragma once

#include <string>

#include "server/core/inference.h"

namespace trireme::server {

// Reads the JSON text of the tensor `sampling_parameters` or, when that is empty, the parameters of
// the request. INVALID_ARGUMENT and UNIMPLEMENTED name the parameter.
Status ReadVllmSampling(const std::string& json, const Parameters& parameters,
                        GenerateRequest& request);

}  // namespace trireme::server
