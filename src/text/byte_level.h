// SPDX-License-Identifier: Apache-2.0
// The byte-level alphabet: 256 printable characters that stand for the 256 bytes in vocabulary
// files, so that no token needs white space or control characters. Thread-safe, no state.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace trireme {

// The character of a byte.
uint32_t ByteLevelChar(uint8_t byte);
// The byte of a character, -1 when it is not in the alphabet.
int ByteOfByteLevelChar(uint32_t code_point);

// Appends the bytes that `token` (valid UTF-8) stands for; false, and `bytes` unchanged, when a
// character is not in the alphabet.
bool DecodeByteLevel(std::string_view token, std::string& bytes);
void AppendByteLevel(std::string_view bytes, std::string& token);

}  // namespace trireme
