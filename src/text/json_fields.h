// SPDX-License-Identifier: Apache-2.0
// Reading members of JSON objects that may be absent, null or of the wrong type. No state.
#pragma once

#include <nlohmann/json.hpp>

#include <cstdint>
#include <string>

namespace trireme {

// The member, or null when `object` is no object or lacks it.
const nlohmann::json& Member(const nlohmann::json& object, const char* key);
// nullptr when the member is not a string.
const std::string* StringMember(const nlohmann::json& object, const char* key);
std::string StringOr(const nlohmann::json& object, const char* key, std::string fallback);
bool BoolOr(const nlohmann::json& object, const char* key, bool fallback);
int64_t IntegerOr(const nlohmann::json& object, const char* key, int64_t fallback);

}  // namespace trireme
