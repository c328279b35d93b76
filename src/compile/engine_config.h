// SPDX-License-Identifier: Apache-2.0
// config.json of an engine directory: version, pretrained_config and build_config. Pure functions.
#pragma once

#include <string>

#include "trireme/builder.h"
#include "trireme/model_config.h"

namespace trireme::compile {

// The limits with every 0 replaced by what it stands for. INVALID_ARGUMENT names a limit that is
// negative or does not fit the others.
StatusOr<BuildLimits> ResolveLimits(const BuildLimits& limits, const ModelConfig& config);

// Keys as docs/formats.md lists them.
std::string EngineConfigJson(const ModelConfig& config, const BuildOptions& options,
                             const BuildLimits& limits);

}  // namespace trireme::compile
