// SPDX-License-Identifier: Apache-2.0
// kernels/philox.h for device code: the same bits, and the same uniform number of a (seed, position).
#pragma once

#include <cstdint>

namespace trireme::cuda {

__device__ inline uint4 Philox4x32(uint4 counter, uint2 key) {
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const uint32_t a_high = __umulhi(0xD2511F53u, counter.x);
    const uint32_t a_low = 0xD2511F53u * counter.x;
    const uint32_t b_high = __umulhi(0xCD9E8D57u, counter.z);
    const uint32_t b_low = 0xCD9E8D57u * counter.z;
    counter = make_uint4(b_high ^ counter.y ^ key.x, b_low, a_high ^ counter.w ^ key.y, a_low);
    key.x += 0x9E3779B9u;
    key.y += 0xBB67AE85u;
  }
  return counter;
}

__device__ inline uint4 PhiloxBits(uint64_t seed, uint64_t position) {
  return Philox4x32(
      make_uint4(static_cast<uint32_t>(position), static_cast<uint32_t>(position >> 32), 0, 0),
      make_uint2(static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)));
}

// In (0, 1), 53 bits.
__device__ inline double PhiloxUniform(uint64_t seed, uint64_t position) {
  const uint4 bits = PhiloxBits(seed, position);
  const uint64_t word = (uint64_t{bits.x} << 32) | bits.y;
  return (static_cast<double>(word >> 12) + 0.5) * (1.0 / 4503599627370496.0);  // 2^-52
}

}  // namespace trireme::cuda
