// SPDX-License-Identifier: Apache-2.0
#include "base/crc32c.h"

#include <array>

#include "base/cpu_features.h"

namespace trireme {
namespace {

constexpr uint32_t kPolynomial = 0x82f63b78;  // bits reversed

// kTable[b]: what a byte b does to a state.
constexpr std::array<uint32_t, 256> MakeTable() {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t state = byte;
    for (int bit = 0; bit < 8; ++bit) {
      state = (state >> 1) ^ ((state & 1) != 0 ? kPolynomial : 0);
    }
    table[byte] = state;
  }
  return table;
}
constexpr std::array<uint32_t, 256> kTable = MakeTable();

}  // namespace

uint32_t Crc32cStateGeneric(uint32_t state, std::span<const std::byte> bytes) {
  for (std::byte byte : bytes) {
    state = kTable[(state ^ static_cast<uint32_t>(byte)) & 0xff] ^ (state >> 8);
  }
  return state;
}

uint32_t Crc32c(std::span<const std::byte> bytes, uint32_t crc) {
  const auto run = HostCpuFeatures().avx2 ? Crc32cStateAvx2 : Crc32cStateGeneric;
  return ~run(~crc, bytes);
}

}  // namespace trireme
