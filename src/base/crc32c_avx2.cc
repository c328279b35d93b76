// SPDX-License-Identifier: Apache-2.0
// The crc32 instruction takes 8 bytes and answers three cycles later, so three parts of a block run
// side by side and are joined by tables that move a state over the bytes of a part.
#include <immintrin.h>

#include <array>
#include <cstring>

#include "base/crc32c.h"

namespace trireme {
namespace {

constexpr size_t kPartBytes = 4096;

// A linear map of the 32 bits of a state, as what it makes of each of the state's four bytes.
using StateMap = std::array<std::array<uint32_t, 256>, 4>;

uint32_t Apply(const StateMap& map, uint32_t state) {
  return map[0][state & 0xff] ^ map[1][(state >> 8) & 0xff] ^ map[2][(state >> 16) & 0xff] ^
         map[3][state >> 24];
}

// What kPartBytes zero bytes do to a state.
StateMap MakeShift() {
  constexpr std::array<std::byte, kPartBytes> kZeros{};
  std::array<uint32_t, 32> of_bit;
  for (int bit = 0; bit < 32; ++bit) of_bit[bit] = Crc32cStateGeneric(1u << bit, kZeros);
  StateMap map{};
  for (int byte = 0; byte < 4; ++byte) {
    for (uint32_t value = 0; value < 256; ++value) {
      for (int bit = 0; bit < 8; ++bit) {
        if ((value >> bit & 1) != 0) map[byte][value] ^= of_bit[byte * 8 + bit];
      }
    }
  }
  return map;
}

uint64_t Load(const std::byte* bytes) {
  uint64_t value;
  std::memcpy(&value, bytes, sizeof(value));
  return value;
}

}  // namespace

uint32_t Crc32cStateAvx2(uint32_t state, std::span<const std::byte> bytes) {
  static const StateMap shift = MakeShift();
  const std::byte* at = bytes.data();
  size_t left = bytes.size();
  for (; left >= 3 * kPartBytes; left -= 3 * kPartBytes, at += 3 * kPartBytes) {
    uint64_t a = state, b = 0, c = 0;
    for (size_t i = 0; i < kPartBytes; i += 8) {
      a = _mm_crc32_u64(a, Load(at + i));
      b = _mm_crc32_u64(b, Load(at + kPartBytes + i));
      c = _mm_crc32_u64(c, Load(at + 2 * kPartBytes + i));
    }
    const uint32_t ab = Apply(shift, static_cast<uint32_t>(a)) ^ static_cast<uint32_t>(b);
    state = Apply(shift, ab) ^ static_cast<uint32_t>(c);
  }
  uint64_t rest = state;
  for (; left >= 8; left -= 8, at += 8) rest = _mm_crc32_u64(rest, Load(at));
  state = static_cast<uint32_t>(rest);
  for (; left > 0; --left, ++at) state = _mm_crc32_u8(state, static_cast<uint8_t>(*at));
  return state;
}

}  // namespace trireme
