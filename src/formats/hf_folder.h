// SPDX-License-Identifier: Apache-2.0
// The weights of a Hugging Face model folder, whichever form they have. Pure functions.
#pragma once

#include <memory>
#include <string>

#include "base/status.h"
#include "formats/tensor_source.h"

namespace trireme {

// Opens, in this order: model.safetensors, model.safetensors.index.json, pytorch_model.bin,
// pytorch_model.bin.index.json.
StatusOr<std::unique_ptr<TensorSource>> OpenHfWeights(const std::string& model_dir);

}  // namespace trireme
