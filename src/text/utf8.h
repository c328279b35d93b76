// SPDX-License-Identifier: Apache-2.0
// UTF-8 by hand: length, decode, append, validate. Thread-safe, no state.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace trireme::utf8 {

// Bytes of the code point that starts with `lead`, for valid text.
inline size_t Length(uint8_t lead) {
  return lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
}

struct Decoded {
  uint32_t code_point;
  uint32_t size;
};

// The code point at `text`, which must be valid UTF-8 and not at its end.
inline Decoded DecodeValid(const char* text) {
  const auto* p = reinterpret_cast<const uint8_t*>(text);
  if (p[0] < 0x80) return {p[0], 1};
  if (p[0] < 0xe0) return {(p[0] & 0x1fu) << 6 | (p[1] & 0x3fu), 2};
  if (p[0] < 0xf0) return {(p[0] & 0xfu) << 12 | (p[1] & 0x3fu) << 6 | (p[2] & 0x3fu), 3};
  return {(p[0] & 7u) << 18 | (p[1] & 0x3fu) << 12 | (p[2] & 0x3fu) << 6 | (p[3] & 0x3fu), 4};
}

// The code point that ends right before `end`, for valid text.
inline Decoded DecodeLastValid(const char* end) {
  const char* p = end - 1;
  while ((static_cast<uint8_t>(*p) & 0xc0) == 0x80) --p;
  return DecodeValid(p);
}

// How `text` (not empty) begins: with a whole code point (kComplete), with bytes that more bytes
// could complete (kIncomplete), or with bytes that no continuation can save (kInvalid). `size` is
// the number of bytes meant: of the code point, or of the longest prefix that could have begun
// one (at least 1), which is what U+FFFD replaces.
enum class Prefix { kComplete, kIncomplete, kInvalid };
struct PrefixInfo {
  Prefix kind;
  uint32_t size;
};
PrefixInfo ClassifyPrefix(std::string_view text);

// Offset of the first byte that is not part of valid UTF-8, or npos.
size_t FindInvalid(std::string_view text);

void Append(uint32_t code_point, std::string& out);

inline bool IsAscii(std::string_view text) {
  size_t i = 0;
  for (; i + 8 <= text.size(); i += 8) {
    uint64_t word;
    std::memcpy(&word, text.data() + i, 8);
    if ((word & 0x8080808080808080ull) != 0) return false;
  }
  for (; i < text.size(); ++i)
    if (static_cast<uint8_t>(text[i]) >= 0x80) return false;
  return true;
}

}  // namespace trireme::utf8
