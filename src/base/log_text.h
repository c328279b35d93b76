// SPDX-License-Identifier: Apache-2.0
// Text in a line of the log, so that the line stays one and its values can be told apart. Pure
// functions.
#pragma once

#include <string>
#include <string_view>

namespace trireme {

// A value with spaces, as "..." with quotes, backslashes and control characters escaped.
std::string Quoted(std::string_view text);

// Characters below the space, and DEL, of which only the tab is harmless.
bool HasControls(std::string_view text);
// Those characters as \n or \x1b.
std::string EscapeControls(std::string_view text);

}  // namespace trireme
