// SPDX-License-Identifier: Apache-2.0
// Models that are engine arguments of vLLM: model.json in the version folder, or
// vllm_engine_args.json there or in the model's folder. Functions of files.
#pragma once

#include <string>

#include "trireme/executor.h"
#include "trireme/status.h"

namespace trireme::server {

struct VllmEngineArgs {
  std::string model;      // a folder, or org/name of the local cache
  std::string tokenizer;  // "": the model's
  std::string dtype = "auto";
  ExecutorConfig executor;
};

// The file with the arguments; "" when there is none.
std::string FindVllmEngineArgs(const std::string& model_dir, const std::string& version_dir);

// `defaults` holds what the arguments leave open. Errors name file and argument.
StatusOr<VllmEngineArgs> ReadVllmEngineArgs(const std::string& file,
                                            const ExecutorConfig& defaults);

}  // namespace trireme::server
