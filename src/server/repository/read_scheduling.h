// SPDX-License-Identifier: Apache-2.0
// The parts of a configuration about sequences and warm-up, from their messages. Pure functions.
#pragma once

#include <vector>

#include "server/repository/model_config.h"

namespace inference {
class ModelConfig;
class ModelSequenceBatching;
}  // namespace inference

namespace trireme::server {

// INVALID_ARGUMENT names the field; what does not exist goes to `unsupported` of `config`.
Status ReadSequenceBatching(const inference::ModelSequenceBatching& from, ModelConfig& config);
void ReadWarmup(const inference::ModelConfig& from, ModelConfig& config);

// Reads initial states that lie in files, in initial_state/ of the model's folder, and makes those
// that are zeros.
Status CompleteInitialStates(const std::string& model_dir, SequenceBatching& batching);

}  // namespace trireme::server
