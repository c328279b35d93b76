// SPDX-License-Identifier: Apache-2.0
// Which tensor of the five-model layout goes where: text in, preprocessing, text model,
// postprocessing, text out. Pure functions.
#pragma once

#include <string>

#include "server/backends/backend.h"

namespace trireme::server {

struct LayoutModels {
  std::string preprocessing = "preprocessing";
  std::string core = "tensorrt_llm";
  std::string postprocessing = "postprocessing";
};

// An ensemble with the inputs and outputs of `config` over the three models; tensors that a model does
// not declare are not passed to it. The error of a model that is not ready names it.
StatusOr<ModelConfig> LayoutEnsemble(const ModelConfig& config, const LayoutModels& models,
                                     const ModelCaller& caller);

}  // namespace trireme::server
