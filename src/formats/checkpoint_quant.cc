// SPDX-License-Identifier: Apache-2.0
#include "formats/checkpoint_quant.h"

namespace trireme {
namespace {

// An entry is part of a name; a star at either end says so again.
bool IsExcluded(const std::vector<std::string>& modules, const std::string& name) {
  for (std::string module : modules) {
    while (module.ends_with('*')) module.pop_back();
    if (module.starts_with('*')) module.erase(0, 1);
    if (!module.empty() && name.find(module) != std::string::npos) return true;
  }
  return false;
}

}  // namespace

StatusOr<WeightQuant> QuantOfWeight(const QuantizationConfig& config, const std::string& name) {
  WeightQuant quant;
  const std::string& algo = config.quant_algo;
  if (algo.empty() || IsExcluded(config.exclude_modules, name)) return quant;
  if (algo == "W8A16") {
    quant.kind = WeightQuant::Kind::kInt8;
  } else if (algo == "W4A16") {
    quant.kind = WeightQuant::Kind::kInt4;
  } else if (algo == "W4A16_AWQ" && !config.pre_quant_scale && !config.has_zero_point) {
    quant.kind = WeightQuant::Kind::kInt4;
    quant.group_size = config.group_size;
  } else if (algo == "FP8") {
    quant.kind = WeightQuant::Kind::kFloat8;
  } else {
    return Unimplemented(
        "checkpoints of quant_algo {} are not built yet; known: FP8, W8A16, W4A16, "
        "W4A16_AWQ without pre_quant_scale",
        algo);
  }
  return quant;
}

std::string SiblingName(const std::string& name, std::string_view suffix) {
  return name.substr(0, name.rfind('.') + 1) + std::string(suffix);
}

std::string ScaleName(const std::string& name, const WeightQuant& quant) {
  const bool per_channel = quant.kind != WeightQuant::Kind::kFloat8 && quant.group_size == 0;
  return SiblingName(name, per_channel ? "per_channel_scale" : "weights_scaling_factor");
}

}  // namespace trireme
