// SPDX-License-Identifier: Apache-2.0
#include "formats/rope_json.h"

#include <climits>
#include <cmath>
#include <string>
#include <vector>

#include "formats/json_text.h"

namespace trireme {
namespace {

using nlohmann::json;

// Reads optional members of one scaling object; the first wrong one is kept as the status.
class Members {
 public:
  Members(const json& object, std::string_view what) : object_(object), what_(what) {}

  const json* Find(const char* key) const {
    const auto it = object_.find(key);
    return it == object_.end() || it->is_null() ? nullptr : &*it;
  }

  bool Read(const char* key, double* target) {
    const json* value = Find(key);
    if (value == nullptr) return false;
    if (!value->is_number() || !std::isfinite(value->get<double>())) {
      Wrong(key, *value, "a number");
      return false;
    }
    *target = value->get<double>();
    return true;
  }

  bool Read(const char* key, int* target) {
    const json* value = Find(key);
    if (value == nullptr) return false;
    // Some published configurations write this count as 8192.0.
    const double number = value->is_number() ? value->get<double>() : -1;
    if (!(number >= 1) || number > INT_MAX || number != std::floor(number)) {
      Wrong(key, *value, "a positive integer");
      return false;
    }
    *target = static_cast<int>(number);
    return true;
  }

  void Read(const char* key, bool* target) {
    const json* value = Find(key);
    if (value == nullptr) return;
    if (!value->is_boolean()) return Wrong(key, *value, "a boolean");
    *target = value->get<bool>();
  }

  void Read(const char* key, std::vector<double>* target) {
    const json* value = Find(key);
    if (value == nullptr) return;
    if (!value->is_array()) return Wrong(key, *value, "an array of numbers");
    for (const json& item : *value) {
      if (!item.is_number() || !std::isfinite(item.get<double>())) {
        return Wrong(key, item, "an array of numbers");
      }
      target->push_back(item.get<double>());
    }
  }

  void Require(bool present, const char* key) {
    if (present || !status_.ok()) return;
    status_ = InvalidArgument("{} lacks '{}'; take it from the model's published config.json",
                              what_, key);
  }

  const Status& status() const { return status_; }

 private:
  void Wrong(const char* key, const json& value, std::string_view wanted) {
    if (!status_.ok()) return;
    status_ = InvalidArgument("{}: '{}' is {}, not {}", what_, key, JsonTypeName(value), wanted);
  }

  const json& object_;
  const std::string_view what_;
  Status status_;
};

StatusOr<std::string> ScalingType(const json& object, std::string_view what) {
  for (const char* key : {"rope_type", "type"}) {
    const auto it = object.find(key);
    if (it == object.end() || it->is_null()) continue;
    if (!it->is_string()) {
      return InvalidArgument("{}: '{}' is {}, not a string", what, key, JsonTypeName(*it));
    }
    const std::string type = it->get<std::string>();
    if (type == "default" || type == "none") return std::string("none");
    if (type == "su") return std::string("longrope");
    if (type == "linear" || type == "dynamic" || type == "yarn" || type == "longrope" ||
        type == "llama3") {
      return type;
    }
    return Unimplemented(
        "{}: rotary scaling '{}' is not supported; supported are linear, dynamic, "
        "yarn, longrope and llama3",
        what, type);
  }
  return std::string("none");
}

void ReadYarn(Members& members, RotaryScaling& scaling) {
  members.Read("attention_factor", &scaling.attention_factor);
  members.Read("beta_fast", &scaling.beta_fast);
  members.Read("beta_slow", &scaling.beta_slow);
  members.Read("mscale", &scaling.mscale);
  members.Read("mscale_all_dim", &scaling.mscale_all_dim);
  members.Read("truncate", &scaling.truncate);
}

void ReadLongRope(Members& members, RotaryScaling& scaling) {
  members.Read("attention_factor", &scaling.attention_factor);
  members.Read("short_factor", &scaling.short_factor);
  members.Read("long_factor", &scaling.long_factor);
  members.Require(!scaling.short_factor.empty(), "short_factor");
  members.Require(!scaling.long_factor.empty(), "long_factor");
}

}  // namespace

StatusOr<RotaryScaling> ParseRotaryScaling(const json& object, std::string_view what,
                                           const RopeDefaults& defaults) {
  RotaryScaling scaling;
  if (object.is_null()) return scaling;
  if (!object.is_object()) {
    return InvalidArgument("{} is {}, not an object", what, JsonTypeName(object));
  }
  TRIREME_ASSIGN_OR_RETURN(scaling.type, ScalingType(object, what));
  if (scaling.type == "none") return scaling;

  Members members(object, what);
  const bool has_factor = members.Read("factor", &scaling.factor);
  const bool has_original =
      members.Read("original_max_position_embeddings", &scaling.original_max_position_embeddings);
  if (!has_original && defaults.original_max_position_embeddings > 0) {
    scaling.original_max_position_embeddings = defaults.original_max_position_embeddings;
  } else if (!has_original && defaults.max_position_embeddings > 0) {
    scaling.original_max_position_embeddings = defaults.max_position_embeddings;
  }
  const int original = scaling.original_max_position_embeddings;
  const bool can_derive = defaults.max_position_embeddings > 0 &&
                          (has_original || defaults.original_max_position_embeddings > 0);
  if (!has_factor && can_derive && (scaling.type == "longrope" || scaling.type == "yarn")) {
    scaling.factor = static_cast<double>(defaults.max_position_embeddings) / original;
  } else if (scaling.type != "longrope") {
    members.Require(has_factor, "factor");
  }
  if (scaling.type == "llama3") {
    members.Require(members.Read("low_freq_factor", &scaling.low_freq_factor), "low_freq_factor");
    members.Require(members.Read("high_freq_factor", &scaling.high_freq_factor),
                    "high_freq_factor");
    members.Require(has_original || defaults.original_max_position_embeddings > 0,
                    "original_max_position_embeddings");
  }
  if (scaling.type == "yarn") ReadYarn(members, scaling);
  if (scaling.type == "longrope") ReadLongRope(members, scaling);
  TRIREME_RETURN_IF_ERROR(members.status());
  if (!(scaling.factor > 0)) {
    return InvalidArgument("{}: 'factor' {} must be positive", what, scaling.factor);
  }
  if (scaling.type == "llama3" && !(scaling.high_freq_factor > scaling.low_freq_factor)) {
    return InvalidArgument("{}: 'high_freq_factor' must exceed 'low_freq_factor'", what);
  }
  return scaling;
}

nlohmann::ordered_json RotaryScalingJson(const RotaryScaling& scaling) {
  if (scaling.type == "none") return nullptr;
  nlohmann::ordered_json object = {{"type", scaling.type}, {"factor", scaling.factor}};
  if (scaling.type == "linear") return object;
  if (scaling.type == "llama3") {
    object["low_freq_factor"] = scaling.low_freq_factor;
    object["high_freq_factor"] = scaling.high_freq_factor;
  }
  object["original_max_position_embeddings"] = scaling.original_max_position_embeddings;
  if (scaling.type == "yarn" || scaling.type == "longrope") {
    object["attention_factor"] = scaling.attention_factor;
  }
  if (scaling.type == "yarn") {
    object["beta_fast"] = scaling.beta_fast;
    object["beta_slow"] = scaling.beta_slow;
    object["mscale"] = scaling.mscale;
    object["mscale_all_dim"] = scaling.mscale_all_dim;
    object["truncate"] = scaling.truncate;
  }
  if (scaling.type == "longrope") {
    object["short_factor"] = scaling.short_factor;
    object["long_factor"] = scaling.long_factor;
  }
  return object;
}

}  // namespace trireme
