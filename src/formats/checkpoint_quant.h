// SPDX-License-Identifier: Apache-2.0
// Which tensors of a checkpoint are quantized, and what their scales are called. Pure functions.
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"
#include "tensor/quant_spec.h"
#include "trireme/model_config.h"

namespace trireme {

// How the weight `name` ("...qkv.weight") of a linear layer is stored under this quantization: kNone
// for those that exclude_modules names. UNIMPLEMENTED for an algorithm that is not built yet.
StatusOr<WeightQuant> QuantOfWeight(const QuantizationConfig& config, const std::string& name);

// "a.b.weight" -> "a.b.<suffix>"
std::string SiblingName(const std::string& name, std::string_view suffix);

// The tensor that holds the scales of weight `name`.
std::string ScaleName(const std::string& name, const WeightQuant& quant);

}  // namespace trireme
