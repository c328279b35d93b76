// SPDX-License-Identifier: Apache-2.0
// Reads typed members of a JSON object, remembering the first that is missing or of a wrong type.
// A reader lives on the stack of one parse.
#pragma once

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace trireme::plan {

class JsonReader {
 public:
  // `status` collects the first failure; `where` names the object in messages.
  JsonReader(const nlohmann::json& object, std::string_view where, Status* status)
      : object_(&object), where_(where), status_(status) {
    if (!object.is_object()) Fail("");
  }

  void Fail(std::string_view key) {
    if (status_->ok()) *status_ = InvalidArgument("plan: {} has a bad '{}'", where_, key);
  }

  bool Has(std::string_view key) const {
    return object_->is_object() && object_->contains(std::string(key));
  }

  void Read(std::string_view key, bool& value) {
    if (const nlohmann::json* j = Member(key, &nlohmann::json::is_boolean)) value = j->get<bool>();
  }
  void Read(std::string_view key, double& value) {
    if (const nlohmann::json* j = Member(key, &nlohmann::json::is_number)) value = j->get<double>();
  }
  void Read(std::string_view key, std::string& value) {
    if (const nlohmann::json* j = Member(key, &nlohmann::json::is_string)) {
      value = j->get<std::string>();
    }
  }
  void Read(std::string_view key, int64_t& value) {
    if (const nlohmann::json* j = Member(key, &nlohmann::json::is_number_integer)) {
      value = j->get<int64_t>();
    }
  }
  void Read(std::string_view key, int& value) {
    int64_t wide = 0;
    Read(key, wide);
    if (wide < std::numeric_limits<int>::min() || wide > std::numeric_limits<int>::max()) {
      return Fail(key);
    }
    value = static_cast<int>(wide);
  }
  template <typename Element>
  void Read(std::string_view key, std::vector<Element>& values) {
    const nlohmann::json* array = Member(key, &nlohmann::json::is_array);
    if (array == nullptr) return;
    values.clear();
    for (const nlohmann::json& element : *array) {
      const bool fits =
          std::is_integral_v<Element> ? element.is_number_integer() : element.is_number();
      if (!fits) return Fail(key);
      values.push_back(element.get<Element>());
    }
  }
  // An empty object when the member is missing.
  JsonReader Object(std::string_view key) {
    static const nlohmann::json kEmpty = nlohmann::json::object();
    const nlohmann::json* j = Member(key, &nlohmann::json::is_object);
    return JsonReader(j == nullptr ? kEmpty : *j, key, status_);
  }
  const nlohmann::json& Array(std::string_view key) {
    static const nlohmann::json kEmpty = nlohmann::json::array();
    const nlohmann::json* j = Member(key, &nlohmann::json::is_array);
    return j == nullptr ? kEmpty : *j;
  }

 private:
  using TypeTest = bool (nlohmann::json::*)() const noexcept;

  const nlohmann::json* Member(std::string_view key, TypeTest is_type) {
    if (!object_->is_object()) return nullptr;
    const auto found = object_->find(std::string(key));
    if (found == object_->end() || !((*found).*is_type)()) {
      Fail(key);
      return nullptr;
    }
    return &*found;
  }

  const nlohmann::json* object_;
  std::string_view where_;
  Status* status_;
};

}  // namespace trireme::plan
