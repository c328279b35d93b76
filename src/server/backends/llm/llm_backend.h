// SPDX-License-Identifier: Apache-2.0
// Backend `llm` (also `tensorrtllm`): a text model, text in and text out, as the tensors of the
// reference's ensemble. Thread-safe.
#pragma once

#include <memory>

#include "server/backends/backend.h"
#include "trireme/generator.h"

namespace trireme::server {

// Loads the engine in a model's version folder, or the one its parameter gpt_model_path names.
std::shared_ptr<const Backend> MakeLlmBackend();
// Serves a generator that is there already. Shared: with whoever made it.
std::shared_ptr<const Backend> MakeLlmBackend(std::shared_ptr<Generator> generator);

}  // namespace trireme::server
