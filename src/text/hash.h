// SPDX-License-Identifier: Apache-2.0
// Hash of short byte strings for the vocabulary tables. Not for untrusted keys that outlive a
// load: an attacker who writes the vocabulary only slows his own model.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>

namespace trireme {

inline uint64_t MixHash(uint64_t a, uint64_t b) {
  const auto product = static_cast<unsigned __int128>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

inline uint64_t LoadBytes(const char* p, size_t size) {  // size <= 8
  uint64_t value = 0;
  if (size >= 4) {
    uint32_t low, high;
    std::memcpy(&low, p, 4);
    std::memcpy(&high, p + size - 4, 4);
    value = static_cast<uint64_t>(high) << 32 | low;
  } else if (size > 0) {
    value = static_cast<uint8_t>(p[0]) |
            static_cast<uint64_t>(static_cast<uint8_t>(p[size / 2])) << 8 |
            static_cast<uint64_t>(static_cast<uint8_t>(p[size - 1])) << 16;
  }
  return value;
}

inline uint64_t HashBytes(std::string_view text) {
  constexpr uint64_t kOdd0 = 0x9e3779b97f4a7c15ull, kOdd1 = 0xd6e8feb86659fd93ull;
  const char* p = text.data();
  size_t left = text.size();
  uint64_t hash = kOdd0 ^ left;
  while (left > 16) {
    uint64_t a, b;
    std::memcpy(&a, p, 8);
    std::memcpy(&b, p + 8, 8);
    hash = MixHash(hash ^ a ^ kOdd1, b ^ kOdd0);
    p += 16;
    left -= 16;
  }
  if (left <= 8) return MixHash(hash ^ LoadBytes(p, left), kOdd1);
  uint64_t a, b;
  std::memcpy(&a, p, 8);
  std::memcpy(&b, p + left - 8, 8);
  return MixHash(hash ^ a ^ kOdd1, b ^ kOdd0);
}

}  // namespace trireme
