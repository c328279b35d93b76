// SPDX-License-Identifier: Apache-2.0
// JSON from outside: parsed without exceptions and with bounded nesting. Pure functions. Includes
// nlohmann, so only sources include it. Internal to formats/.
#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

#include "base/status.h"

namespace trireme {

// Nesting beyond this is refused before parsing: no real configuration comes near, and recursion
// over the parsed value must not exhaust the stack.
inline constexpr int kMaxJsonDepth = 64;

// `what` names the text in errors: "'dir/config.json'".
StatusOr<nlohmann::json> ParseJson(std::string_view text, std::string_view what);
// Keeps the order of keys.
StatusOr<nlohmann::ordered_json> ParseOrderedJson(std::string_view text, std::string_view what);

// "a number", "an object" and so on, for messages.
std::string_view JsonTypeName(const nlohmann::json& value);

}  // namespace trireme
