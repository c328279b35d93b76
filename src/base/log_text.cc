// SPDX-License-Identifier: Apache-2.0
#include "base/log_text.h"

#include <fmt/format.h>

#include <algorithm>

namespace trireme {
namespace {

bool IsControl(char c) { return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f; }

}  // namespace

bool HasControls(std::string_view text) { return std::ranges::any_of(text, IsControl); }

std::string EscapeControls(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '\n') {
      escaped += "\\n";
    } else if (IsControl(c)) {
      escaped += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    } else {
      escaped += c;
    }
  }
  return escaped;
}

std::string Quoted(std::string_view text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return EscapeControls(quoted) + "\"";
}

}  // namespace trireme
