// SPDX-License-Identifier: Apache-2.0
#include "formats/hf_config.h"

#include <climits>
#include <cmath>
#include <utility>

#include "base/mapped_file.h"
#include "formats/json_text.h"
#include "formats/rope_json.h"

namespace trireme {

using nlohmann::json;

namespace {
constexpr uint64_t kMaxConfigBytes = 16 << 20;
}  // namespace

struct HfConfig::Impl {
  json root;
  std::string source;

  // The value of the first key that is there, or null.
  std::pair<std::string_view, const json*> Find(Keys keys) const {
    for (const std::string_view key : keys) {
      const auto it = root.find(key);
      if (it != root.end() && !it->is_null()) return {key, &*it};
    }
    return {"", nullptr};
  }

  Status Wrong(std::string_view key, const json& value, std::string_view wanted) const {
    return InvalidArgument("'{}': key '{}' is {}, not {}", source, key, JsonTypeName(value),
                           wanted);
  }

  // Reads the elements of an array with `read`, which says whether one has the right type.
  template <typename T, typename Read>
  StatusOr<std::vector<T>> GetArray(Keys keys, std::string_view wanted, Read read) const {
    const auto [key, value] = Find(keys);
    std::vector<T> items;
    if (value == nullptr) return items;
    if (!value->is_array()) return Wrong(key, *value, wanted);
    for (const json& element : *value) {
      T item;
      if (!read(element, item)) return Wrong(key, element, wanted);
      items.push_back(std::move(item));
    }
    return items;
  }
};

HfConfig::HfConfig(std::unique_ptr<const Impl> impl) : impl_(std::move(impl)) {}
HfConfig::HfConfig(HfConfig&&) noexcept = default;
HfConfig& HfConfig::operator=(HfConfig&&) noexcept = default;
HfConfig::~HfConfig() = default;

StatusOr<HfConfig> HfConfig::Load(const std::string& model_dir) {
  const std::string path = model_dir + "/config.json";
  TRIREME_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxConfigBytes));
  return Parse(text, path);
}

StatusOr<HfConfig> HfConfig::Parse(std::string_view text, const std::string& source) {
  TRIREME_ASSIGN_OR_RETURN(json root, ParseJson(text, "'" + source + "'"));
  if (!root.is_object()) return InvalidArgument("'{}' is not a JSON object", source);
  return HfConfig(std::make_unique<const Impl>(Impl{std::move(root), source}));
}

bool HfConfig::Has(std::string_view key) const { return impl_->Find({key}).second != nullptr; }

StatusOr<std::optional<int64_t>> HfConfig::GetInt(Keys keys) const {
  const auto [key, value] = impl_->Find(keys);
  if (value == nullptr) return std::optional<int64_t>();
  if (!value->is_number_integer()) return impl_->Wrong(key, *value, "an integer");
  if (value->is_number_unsigned() && value->get<uint64_t>() > uint64_t{INT64_MAX}) {
    return InvalidArgument("'{}': key '{}' is too large", impl_->source, key);
  }
  return std::optional<int64_t>(value->get<int64_t>());
}

StatusOr<std::optional<double>> HfConfig::GetDouble(Keys keys) const {
  const auto [key, value] = impl_->Find(keys);
  if (value == nullptr) return std::optional<double>();
  if (!value->is_number()) return impl_->Wrong(key, *value, "a number");
  return std::optional<double>(value->get<double>());
}

StatusOr<std::optional<bool>> HfConfig::GetBool(Keys keys) const {
  const auto [key, value] = impl_->Find(keys);
  if (value == nullptr) return std::optional<bool>();
  if (!value->is_boolean()) return impl_->Wrong(key, *value, "a boolean");
  return std::optional<bool>(value->get<bool>());
}

StatusOr<std::optional<std::string>> HfConfig::GetString(Keys keys) const {
  const auto [key, value] = impl_->Find(keys);
  if (value == nullptr) return std::optional<std::string>();
  if (!value->is_string()) return impl_->Wrong(key, *value, "a string");
  return std::optional<std::string>(value->get<std::string>());
}

StatusOr<std::vector<int64_t>> HfConfig::GetInts(Keys keys) const {
  return impl_->GetArray<int64_t>(keys, "an array of integers", [](const json& v, int64_t& item) {
    if (!v.is_number_integer()) return false;
    item = v.get<int64_t>();
    return true;
  });
}

StatusOr<std::vector<double>> HfConfig::GetDoubles(Keys keys) const {
  return impl_->GetArray<double>(keys, "an array of numbers", [](const json& v, double& item) {
    if (!v.is_number()) return false;
    item = v.get<double>();
    return true;
  });
}

StatusOr<std::vector<std::string>> HfConfig::GetStrings(Keys keys) const {
  return impl_->GetArray<std::string>(keys, "an array of strings",
                                      [](const json& v, std::string& item) {
                                        if (!v.is_string()) return false;
                                        item = v.get<std::string>();
                                        return true;
                                      });
}

StatusOr<int64_t> HfConfig::GetIntOr(Keys keys, int64_t fallback) const {
  TRIREME_ASSIGN_OR_RETURN(const std::optional<int64_t> value, GetInt(keys));
  return value.value_or(fallback);
}

StatusOr<double> HfConfig::GetDoubleOr(Keys keys, double fallback) const {
  TRIREME_ASSIGN_OR_RETURN(const std::optional<double> value, GetDouble(keys));
  return value.value_or(fallback);
}

StatusOr<bool> HfConfig::GetBoolOr(Keys keys, bool fallback) const {
  TRIREME_ASSIGN_OR_RETURN(const std::optional<bool> value, GetBool(keys));
  return value.value_or(fallback);
}

StatusOr<std::string> HfConfig::GetStringOr(Keys keys, std::string_view fallback) const {
  TRIREME_ASSIGN_OR_RETURN(std::optional<std::string> value, GetString(keys));
  return value ? *std::move(value) : std::string(fallback);
}

StatusOr<int> HfConfig::RequireCount(Keys keys) const {
  TRIREME_ASSIGN_OR_RETURN(const int value, GetCountOr(keys, 0));
  if (value == 0) return InvalidArgument("'{}' lacks the key '{}'", impl_->source, *keys.begin());
  return value;
}

StatusOr<int> HfConfig::GetCountOr(Keys keys, int fallback) const {
  TRIREME_ASSIGN_OR_RETURN(const std::optional<int64_t> value, GetInt(keys));
  if (!value) return fallback;
  if (*value < 1 || *value > INT_MAX) {
    return InvalidArgument("'{}': key '{}' is {}; it must be in [1, {}]", impl_->source,
                           impl_->Find(keys).first, *value, INT_MAX);
  }
  return static_cast<int>(*value);
}

StatusOr<std::optional<HfConfig>> HfConfig::GetObject(Keys keys) const {
  const auto [key, value] = impl_->Find(keys);
  if (value == nullptr) return std::optional<HfConfig>();
  if (!value->is_object()) return impl_->Wrong(key, *value, "an object");
  const std::string source = fmt::format("{}: {}", impl_->source, key);
  return std::optional<HfConfig>(HfConfig(std::make_unique<const Impl>(Impl{*value, source})));
}

std::string HfConfig::JsonOf(std::string_view key) const {
  const json* value = impl_->Find({key}).second;
  return value == nullptr ? "" : value->dump(-1, ' ', false, json::error_handler_t::replace);
}

StatusOr<std::vector<std::string>> HfConfig::Architectures() const {
  return GetStrings({"architectures"});
}

StatusOr<std::string> HfConfig::ModelType() const { return GetStringOr({"model_type"}, ""); }

StatusOr<std::optional<DType>> HfConfig::GetDType() const {
  TRIREME_ASSIGN_OR_RETURN(const std::string name, GetStringOr({"dtype", "torch_dtype"}, "auto"));
  if (name == "auto") return std::optional<DType>();
  StatusOr<DType> dtype = ParseDType(name);
  if (!dtype.ok()) return dtype.status().WithContext("'" + impl_->source + "'");
  return std::optional<DType>(*dtype);
}

StatusOr<ParsedRope> HfConfig::GetRope(std::string_view layer_type) const {
  RopeDefaults defaults;
  TRIREME_ASSIGN_OR_RETURN(defaults.max_position_embeddings,
                           GetCountOr({"max_position_embeddings", "n_positions"}, 0));
  TRIREME_ASSIGN_OR_RETURN(defaults.original_max_position_embeddings,
                           GetCountOr({"original_max_position_embeddings"}, 0));

  // The newer form keeps theta and the share of rotated dimensions inside the object.
  const auto [key, value] = impl_->Find({"rope_parameters", "rope_scaling"});
  if (value != nullptr && !value->is_object()) return impl_->Wrong(key, *value, "an object");
  const json* object = value;
  if (object != nullptr) {
    const auto nested = object->find(layer_type);
    if (nested != object->end() && nested->is_object()) object = &*nested;
  }

  ParsedRope rope;
  const HfConfig inner(std::make_unique<const Impl>(
      Impl{object == nullptr ? json::object() : *object, fmt::format("{}: {}", source(), key)}));
  TRIREME_ASSIGN_OR_RETURN(std::optional<double> theta, inner.GetDouble({"rope_theta"}));
  if (!theta) {
    TRIREME_ASSIGN_OR_RETURN(theta, GetDouble({"rope_theta", "rotary_emb_base", "rotary_base"}));
  }
  rope.has_theta = theta.has_value();
  rope.theta = theta.value_or(rope.theta);
  if (!(rope.theta > 0) || !std::isfinite(rope.theta)) {
    return InvalidArgument("'{}': rope_theta {} must be positive", source(), rope.theta);
  }
  TRIREME_ASSIGN_OR_RETURN(std::optional<double> partial,
                           inner.GetDouble({"partial_rotary_factor"}));
  if (!partial) {
    TRIREME_ASSIGN_OR_RETURN(partial, GetDouble({"partial_rotary_factor", "rotary_pct"}));
  }
  rope.partial_rotary_factor = partial.value_or(1.0);
  if (!(rope.partial_rotary_factor > 0 && rope.partial_rotary_factor <= 1)) {
    return InvalidArgument("'{}': partial_rotary_factor {} must be in (0, 1]", source(),
                           rope.partial_rotary_factor);
  }
  const std::string what = fmt::format("'{}': {}", source(), key);
  TRIREME_ASSIGN_OR_RETURN(
      rope.scaling, ParseRotaryScaling(object == nullptr ? json() : *object, what, defaults));
  return rope;
}

const std::string& HfConfig::source() const { return impl_->source; }

}  // namespace trireme
