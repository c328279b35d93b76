// SPDX-License-Identifier: Apache-2.0
// The size of a model as its publishers count it. Pure function.
#pragma once

#include <cstdint>

#include "trireme/model_config.h"
#include "trireme/status.h"

namespace trireme::models {

// Of all ranks together, by the network that the configuration describes, whatever form the weights
// are stored in. A table that serves as embedding and head counts once.
StatusOr<int64_t> CountParameters(const ModelConfig& config);

}  // namespace trireme::models
