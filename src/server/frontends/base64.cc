// SPDX-License-Identifier: Apache-2.0
#include "server/frontends/base64.h"

#include "base/status.h"

namespace trireme::server {
namespace {

// -1: not of the alphabet.
int ValueOf(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  return c == '+' ? 62 : c == '/' ? 63 : -1;
}

}  // namespace

StatusOr<std::string> DecodeBase64(std::string_view text) {
  const auto bad = [] { return InvalidArgument("file content is not valid base64"); };
  if (text.size() % 4 != 0) return bad();
  size_t padding = 0;
  while (padding < 2 && padding < text.size() && text[text.size() - 1 - padding] == '=') ++padding;
  std::string bytes;
  bytes.reserve(text.size() / 4 * 3);
  uint32_t group = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const int value = i + padding >= text.size() ? 0 : ValueOf(text[i]);
    if (value < 0) return bad();
    group = (group << 6) | static_cast<uint32_t>(value);
    if (i % 4 != 3) continue;
    for (int shift = 16; shift >= 0; shift -= 8) bytes += static_cast<char>((group >> shift) & 255);
    group = 0;
  }
  bytes.resize(bytes.size() - padding);
  return bytes;
}

}  // namespace trireme::server
