// SPDX-License-Identifier: Apache-2.0
// The tokenizer of a five-model layout's preprocessing and postprocessing. Functions of files.
#pragma once

#include <memory>

#include "server/backends/backend.h"
#include "trireme/tokenizer.h"

namespace trireme::server {

// The one of parameter tokenizer_dir; unset, that of the engine which the model tensorrt_llm of the
// same repository names. Errors say where was looked. Shared: streams of pieces keep it.
StatusOr<std::shared_ptr<const Tokenizer>> LoadLayoutTokenizer(const BackendContext& context);

// A true-or-false parameter of the configuration.
StatusOr<bool> FlagParameter(const ModelConfig& config, const std::string& name, bool fallback);

struct LayoutParameter {
  const char* name;
  bool works;  // else it belongs to a feature that does not exist yet
};
// UNIMPLEMENTED and INVALID_ARGUMENT name the parameter or tensor that a native model of the layout
// does not know; tensors are not checked against empty lists.
Status CheckLayoutConfig(const ModelConfig& config, std::span<const LayoutParameter> parameters,
                         std::span<const TensorConfig> inputs,
                         std::span<const TensorConfig> outputs);

}  // namespace trireme::server
