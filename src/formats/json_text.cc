// SPDX-License-Identifier: Apache-2.0
#include "formats/json_text.h"

#include <algorithm>

#include "base/json_error.h"

namespace trireme {
namespace {

// Deepest nesting of brackets outside strings. Needs no valid JSON.
int NestingDepth(std::string_view text) {
  int depth = 0;
  int deepest = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      deepest = std::max(deepest, ++depth);
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return deepest;
}

template <typename Json>
StatusOr<Json> Parse(std::string_view text, std::string_view what) {
  if (NestingDepth(text) > kMaxJsonDepth) {
    return InvalidArgument("{} nests JSON deeper than {} levels", what, kMaxJsonDepth);
  }
  Json value = Json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (value.is_discarded()) {
    return InvalidArgument("{} is not valid JSON: {}", what, JsonErrorPlace(text));
  }
  return value;
}

}  // namespace

StatusOr<nlohmann::json> ParseJson(std::string_view text, std::string_view what) {
  return Parse<nlohmann::json>(text, what);
}

StatusOr<nlohmann::ordered_json> ParseOrderedJson(std::string_view text, std::string_view what) {
  return Parse<nlohmann::ordered_json>(text, what);
}

std::string_view JsonTypeName(const nlohmann::json& value) {
  if (value.is_null()) return "null";
  if (value.is_boolean()) return "a boolean";
  if (value.is_number_integer()) return "an integer";
  if (value.is_number()) return "a number";
  if (value.is_string()) return "a string";
  if (value.is_array()) return "an array";
  return "an object";
}

}  // namespace trireme
