// SPDX-License-Identifier: Apache-2.0
// An engine on disk: the file of one rank with its parsed configuration and plan. Immutable.
#pragma once

#include <memory>
#include <string>

#include "base/thread_pool.h"
#include "formats/engine_file.h"
#include "plan/plan.h"
#include "trireme/model_config.h"
#include "trireme/status.h"

namespace trireme::engine {

struct LoadedEngine {
  std::unique_ptr<EngineFile> file;
  plan::Plan plan;
  ModelConfig model;
  // Limits the engine was built with: defaults for those who give none.
  int max_batch_size = 0;
  int max_num_tokens = 0;
  int max_seq_len = 0;
  int tokens_per_block = 0;
};

// `path`: an engine directory, or one bare .engine file of any name. Errors name the file and, for
// one that cannot be used, the command that makes a new one.
StatusOr<LoadedEngine> OpenEngine(const std::string& path);

// Reads every stored weight and holds it against its checksum. INVALID_ARGUMENT names the first damaged one.
Status VerifyWeights(const LoadedEngine& engine, ThreadPool& pool);

}  // namespace trireme::engine
