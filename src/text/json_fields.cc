// SPDX-License-Identifier: Apache-2.0
#include "text/json_fields.h"

namespace trireme {

using nlohmann::json;

const json& Member(const json& object, const char* key) {
  static const json kNull;
  if (!object.is_object()) return kNull;
  const auto found = object.find(key);
  return found == object.end() ? kNull : *found;
}

const std::string* StringMember(const json& object, const char* key) {
  return Member(object, key).get_ptr<const std::string*>();
}

std::string StringOr(const json& object, const char* key, std::string fallback) {
  const std::string* value = StringMember(object, key);
  return value == nullptr ? std::move(fallback) : *value;
}

bool BoolOr(const json& object, const char* key, bool fallback) {
  const json& value = Member(object, key);
  return value.is_boolean() ? value.get<bool>() : fallback;
}

int64_t IntegerOr(const json& object, const char* key, int64_t fallback) {
  const json& value = Member(object, key);
  return value.is_number_integer() ? value.get<int64_t>() : fallback;
}

}  // namespace trireme
