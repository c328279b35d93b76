// SPDX-License-Identifier: Apache-2.0
#include "text/byte_level.h"

#include <array>

#include "text/utf8.h"

namespace trireme {
namespace {

constexpr bool StandsForItself(int byte) {
  return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

// Bytes that do not stand for themselves take the characters from U+0100 on, in order.
constexpr std::array<uint16_t, 256> MakeChars() {
  std::array<uint16_t, 256> chars{};
  uint16_t next = 256;
  for (int byte = 0; byte < 256; ++byte)
    chars[byte] = StandsForItself(byte) ? static_cast<uint16_t>(byte) : next++;
  return chars;
}
constexpr std::array<uint16_t, 256> kChars = MakeChars();

constexpr size_t kLimit = 0x144;
constexpr std::array<int16_t, kLimit> MakeBytes() {
  std::array<int16_t, kLimit> bytes{};
  for (auto& byte : bytes) byte = -1;
  for (int byte = 0; byte < 256; ++byte) bytes[kChars[byte]] = static_cast<int16_t>(byte);
  return bytes;
}
constexpr std::array<int16_t, kLimit> kBytes = MakeBytes();

}  // namespace

uint32_t ByteLevelChar(uint8_t byte) { return kChars[byte]; }

int ByteOfByteLevelChar(uint32_t c) { return c < kLimit ? kBytes[c] : -1; }

bool DecodeByteLevel(std::string_view token, std::string& bytes) {
  const size_t before = bytes.size();
  for (size_t i = 0; i < token.size();) {
    const utf8::Decoded d = utf8::DecodeValid(token.data() + i);
    const int byte = ByteOfByteLevelChar(d.code_point);
    if (byte < 0) {
      bytes.resize(before);
      return false;
    }
    bytes.push_back(static_cast<char>(byte));
    i += d.size;
  }
  return true;
}

void AppendByteLevel(std::string_view bytes, std::string& token) {
  for (const char byte : bytes) utf8::Append(kChars[static_cast<uint8_t>(byte)], token);
}

}  // namespace trireme
