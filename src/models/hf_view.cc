// SPDX-License-Identifier: Apache-2.0
#include "models/hf_view.h"

#include <utility>

namespace trireme::models {
namespace {

class View : public HfConfigView {
 public:
  View(const HfConfig& config, std::vector<std::string> architectures, std::string model_type)
      : config_(config),
        architectures_(std::move(architectures)),
        model_type_(std::move(model_type)) {}

  const std::vector<std::string>& architectures() const override { return architectures_; }
  std::string model_type() const override { return model_type_; }
  StatusOr<std::optional<int64_t>> Int(Keys keys) const override { return config_.GetInt(keys); }
  StatusOr<std::optional<double>> Double(Keys keys) const override {
    return config_.GetDouble(keys);
  }
  StatusOr<std::optional<bool>> Bool(Keys keys) const override { return config_.GetBool(keys); }
  StatusOr<std::optional<std::string>> String(Keys keys) const override {
    return config_.GetString(keys);
  }
  StatusOr<std::optional<std::vector<std::string>>> Strings(Keys keys) const override {
    TRIREME_ASSIGN_OR_RETURN(std::vector<std::string> strings, config_.GetStrings(keys));
    if (strings.empty()) return std::optional<std::vector<std::string>>();
    return std::optional(std::move(strings));
  }
  StatusOr<RopeParameters> Rope() const override {
    TRIREME_ASSIGN_OR_RETURN(ParsedRope parsed, config_.GetRope());
    RopeParameters rope;
    if (parsed.has_theta) rope.theta = parsed.theta;
    rope.partial_rotary_factor = parsed.partial_rotary_factor;
    rope.scaling = std::move(parsed.scaling);
    return rope;
  }

 private:
  const HfConfig& config_;
  std::vector<std::string> architectures_;
  std::string model_type_;
};

}  // namespace

StatusOr<std::unique_ptr<const HfConfigView>> ViewOf(const HfConfig& config) {
  TRIREME_ASSIGN_OR_RETURN(std::vector<std::string> architectures, config.Architectures());
  TRIREME_ASSIGN_OR_RETURN(std::string model_type, config.ModelType());
  std::unique_ptr<const HfConfigView> view =
      std::make_unique<View>(config, std::move(architectures), std::move(model_type));
  return view;
}

StatusOr<FamilyConfig> ReadHfConfig(const HfConfig& config) {
  TRIREME_ASSIGN_OR_RETURN(const std::unique_ptr<const HfConfigView> view, ViewOf(config));
  if (view->architectures().empty()) {
    return InvalidArgument("{} has no 'architectures'; cannot tell the model's family",
                           config.source());
  }
  if (config.Has("quantization_config")) {
    return Unimplemented(
        "{} has a 'quantization_config': checkpoints that were quantized elsewhere are not read "
        "yet; "
        "take the float model",
        config.source());
  }
  FamilyConfig result;
  TRIREME_ASSIGN_OR_RETURN(result.family, FindFamilyByHfArchitecture(view->architectures()));
  TRIREME_ASSIGN_OR_RETURN(result.config, result.family->ConfigFromHf(*view));
  TRIREME_ASSIGN_OR_RETURN(const std::optional<DType> dtype, config.GetDType());
  result.config.dtype = DTypeName(dtype.value_or(DType::kFloat16));
  return result;
}

}  // namespace trireme::models
