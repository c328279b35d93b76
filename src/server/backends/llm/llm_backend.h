// SPDX-License-Identifier: Apache-2.0
// Backend `llm` (also `tensorrtllm`, and `vllm` for models that are engine arguments): a text model
// behind the tensors its configuration declares. Thread-safe.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "server/backends/backend.h"
#include "trireme/generator.h"

namespace trireme::server {

struct LlmBackendOptions {
  ExecutorConfig executor;  // what configurations leave open
  // Turns what a configuration names as its model into an engine: a folder of Hugging Face form may
  // have to be built. Unset: it must be an engine.
  std::function<StatusOr<std::string>(const std::string& model, const std::string& dtype)>
      resolve_engine;
};

// Loads the engine in a model's version folder, or the one its parameter gpt_model_path names.
std::shared_ptr<const Backend> MakeLlmBackend(const LlmBackendOptions& options);
// Serves a generator that is there already. Shared: with whoever made it.
std::shared_ptr<const Backend> MakeLlmBackend(std::shared_ptr<Generator> generator);

}  // namespace trireme::server
