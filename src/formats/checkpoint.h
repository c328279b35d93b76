// SPDX-License-Identifier: Apache-2.0
// The checkpoint directory: config.json and rank{r}.safetensors, sharded for tp_size x pp_size.
// Pure functions. Keys and files: docs/formats.md.
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"
#include "trireme/model_config.h"

namespace trireme {

// `dir_or_file`: a checkpoint directory or its config.json.
StatusOr<ModelConfig> LoadCheckpointConfig(const std::string& dir_or_file);
StatusOr<ModelConfig> ParseCheckpointConfig(std::string_view json);

// Indented JSON with the keys in the field's order; ParseCheckpointConfig reads it back unchanged.
std::string CheckpointConfigJson(const ModelConfig& config);

// dir/rank{rank}.safetensors
std::string RankFile(const std::string& dir, int rank);

}  // namespace trireme
