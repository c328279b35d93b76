// SPDX-License-Identifier: Apache-2.0
// `${...}` left in a template: upstream's are copied with some keys never filled. Pure functions.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace trireme::server {

// Whether a string still holds a `${...}`.
bool HasPlaceholder(std::string_view text);

// Protobuf text without the scalar fields and list elements whose value is a bare `${...}`: they are
// unset. Data types, which may not be unset, become TYPE_FP32 for logits and TYPE_FP16 otherwise, as
// upstream's examples fill them. Strings keep theirs. Each is named in `warnings` as "line N: ...".
std::string RemovePlaceholders(std::string_view text, std::vector<std::string>& warnings);

}  // namespace trireme::server
