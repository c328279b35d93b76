// SPDX-License-Identifier: Apache-2.0
#include "text/utf8.h"

namespace trireme::utf8 {

PrefixInfo ClassifyPrefix(std::string_view text) {
  const auto* p = reinterpret_cast<const uint8_t*>(text.data());
  const uint8_t lead = p[0];
  if (lead < 0x80) return {Prefix::kComplete, 1};
  if (lead < 0xc2 || lead > 0xf4) return {Prefix::kInvalid, 1};
  const uint32_t want = static_cast<uint32_t>(Length(lead));
  // The second byte is narrower after these leads: no overlong forms, surrogates, or > U+10FFFF.
  const uint8_t low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
  const uint8_t high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
  uint32_t have = 1;
  while (have < want && have < text.size()) {
    const uint8_t byte = p[have];
    const bool good = have == 1 ? byte >= low && byte <= high : (byte & 0xc0) == 0x80;
    if (!good) return {Prefix::kInvalid, have};
    ++have;
  }
  return {have == want ? Prefix::kComplete : Prefix::kIncomplete, have};
}

size_t FindInvalid(std::string_view text) {
  size_t i = 0;
  while (i < text.size()) {
    uint64_t word;
    if (i + 8 <= text.size() &&
        (std::memcpy(&word, text.data() + i, 8), (word & 0x8080808080808080ull) == 0)) {
      i += 8;
      continue;
    }
    const PrefixInfo info = ClassifyPrefix(text.substr(i, 4));
    if (info.kind != Prefix::kComplete) return i;
    i += info.size;
  }
  return std::string_view::npos;
}

void Append(uint32_t c, std::string& out) {
  char buffer[4];
  size_t size = 1;
  if (c < 0x80) {
    buffer[0] = static_cast<char>(c);
  } else if (c < 0x800) {
    buffer[0] = static_cast<char>(0xc0 | c >> 6);
    size = 2;
  } else if (c < 0x10000) {
    buffer[0] = static_cast<char>(0xe0 | c >> 12);
    size = 3;
  } else {
    buffer[0] = static_cast<char>(0xf0 | c >> 18);
    size = 4;
  }
  for (size_t i = 1; i < size; ++i)
    buffer[i] = static_cast<char>(0x80 | (c >> (6 * (size - 1 - i)) & 0x3f));
  out.append(buffer, size);
}

}  // namespace trireme::utf8
