// SPDX-License-Identifier: Apache-2.0
// CRC-32C (Castagnoli, RFC 3720 appendix B): finds damaged files, defends against nobody. Pure
// functions; thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace trireme {

// Of `bytes`, continuing from the checksum `crc` of the bytes before them (0: none).
uint32_t Crc32c(std::span<const std::byte> bytes, uint32_t crc = 0);

inline uint32_t Crc32c(std::string_view text, uint32_t crc = 0) {
  return Crc32c(std::as_bytes(std::span(text.data(), text.size())), crc);
}

// The two ways it is computed, for tests: by table on any machine, and by the processor's own
// instruction, which every machine with AVX2 has. `state` is the checksum's complement.
uint32_t Crc32cStateGeneric(uint32_t state, std::span<const std::byte> bytes);
uint32_t Crc32cStateAvx2(uint32_t state, std::span<const std::byte> bytes);

}  // namespace trireme
