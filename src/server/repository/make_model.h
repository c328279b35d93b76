// SPDX-License-Identifier: Apache-2.0
// From a configuration to a loaded version of a model.
#pragma once

#include <memory>
#include <string>

#include "server/core/model.h"

namespace trireme::server {

struct ModelSource {
  std::string model_dir;    // "": none
  std::string version_dir;  // ""
  int64_t version = 1;
  const std::map<std::string, std::string>& settings;
  bool auto_complete = true;
  bool is_alias = false;  // another name of a model that is loaded
};

// Settles kind and GPUs of a group: KIND_GPU means every GPU unless some are named, and the CPU, with a
// warning, where there is none (num_gpus 0) or the backend uses none (-1). INVALID_ARGUMENT for a GPU
// that is not there.
Status PlaceGroup(int num_gpus, const std::string& model, InstanceGroup& group);

// Completes and checks the configuration, lets the backend load, and warms the model up. `cache` may be
// null.
StatusOr<std::shared_ptr<Model>> MakeModel(ModelConfig config, const ModelSource& source,
                                           const Backend& backend, MetricsRegistry& metrics,
                                           ModelCaller& caller, ResponseCache* cache);

}  // namespace trireme::server
