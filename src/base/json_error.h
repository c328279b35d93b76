// SPDX-License-Identifier: Apache-2.0
// Where a text stops being JSON, for messages. Pure function.
#pragma once

#include <string>
#include <string_view>

namespace trireme {

// "line 2, column 14, at '}'" or "its end, which comes too soon"; of a text whose nesting is
// bounded and that is not valid JSON in UTF-8.
std::string JsonErrorPlace(std::string_view text);

}  // namespace trireme
