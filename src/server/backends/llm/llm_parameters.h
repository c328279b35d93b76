// SPDX-License-Identifier: Apache-2.0
// What the `parameters` of a text model's configuration say. Pure functions.
#pragma once

#include <string>

#include "server/repository/model_config.h"
#include "trireme/executor.h"

namespace trireme::server {

struct LlmParameters {
  std::string engine;  // "": the version folder
  std::string tokenizer_dir;
  bool exclude_input_in_output = false;
  ExecutorConfig executor;
};

// `defaults` holds what the parameters leave open. INVALID_ARGUMENT and UNIMPLEMENTED name model and
// parameter; those that change nothing here are logged.
StatusOr<LlmParameters> ReadLlmParameters(const ModelConfig& config,
                                          const ExecutorConfig& defaults);

// "true", "yes", "t", "1" or "false", "no", "f", "0", in any case.
StatusOr<bool> ParseFlag(const std::string& value);

}  // namespace trireme::server
