// SPDX-License-Identifier: Apache-2.0
// A parsed Hugging Face configuration as model families see it. Immutable.
#pragma once

#include <memory>

#include "formats/hf_config.h"
#include "trireme/model_family.h"

namespace trireme::models {

// Borrows `config`, which must outlive the view.
StatusOr<std::unique_ptr<const HfConfigView>> ViewOf(const HfConfig& config);

// The configuration a family makes of a config.json: its family, and every field but mapping and
// quantization. dtype is the published one ("float16" when none is named).
struct FamilyConfig {
  const ModelFamily* family = nullptr;
  ModelConfig config;
};
StatusOr<FamilyConfig> ReadHfConfig(const HfConfig& config);

}  // namespace trireme::models
