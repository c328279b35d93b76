// SPDX-License-Identifier: Apache-2.0
// JSON as requests bring it and answers carry it. Pure functions.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "server/core/inference.h"

namespace trireme::server {

// Object members keep the document's order.
using Json = nlohmann::ordered_json;

// INVALID_ARGUMENT for text that is not JSON in UTF-8, is nested deeper than 100, or is no object.
StatusOr<Json> ParseJsonObject(std::string_view text);

// A quoted string; bytes that are not UTF-8 become U+FFFD.
void AppendJsonString(std::string& to, std::string_view text);
// Shortest form that reads back the same; NaN, Infinity and -Infinity bare, as Triton writes them.
void AppendJsonNumber(std::string& to, double value);
void AppendJsonNumber(std::string& to, float value);
void AppendJsonNumber(std::string& to, int64_t value);
void AppendJsonNumber(std::string& to, uint64_t value);

// The elements of a tensor between commas, row-major, without brackets. INVALID_ARGUMENT when the
// bytes do not make whole elements.
Status AppendJsonElements(std::string& to, const Tensor& tensor);
void AppendJsonParameter(std::string& to, const ParameterValue& value);

// The bytes of a tensor of `count` elements from a JSON value: a scalar or an array, nested or flat.
// Wrong types and counts are INTERNAL, as they are in Triton.
StatusOr<std::string> TensorBytes(const Json& data, DataType type, int64_t count);
// The same for one element, appended.
Status AppendElement(std::string& bytes, const Json& value, DataType type);

}  // namespace trireme::server
