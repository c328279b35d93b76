// SPDX-License-Identifier: Apache-2.0
#include "server/backends/layout/git_blob_id.h"

#include <fmt/format.h>

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>

namespace trireme::server {
namespace {

// FIPS 180-4, section 6.1.
class Sha1 {
 public:
  void Add(std::string_view text) {
    for (const char c : text) {
      block_[filled_++] = static_cast<uint8_t>(c);
      if (filled_ == block_.size()) Compress();
    }
    num_bytes_ += text.size();
  }

  std::string Finish() {
    const uint64_t num_bits = num_bytes_ * 8;
    Add(std::string_view("\x80", 1));
    while (filled_ != 56) Add(std::string_view("\0", 1));
    for (int shift = 56; shift >= 0; shift -= 8) {
      const char byte = static_cast<char>(num_bits >> shift);
      Add(std::string_view(&byte, 1));
    }
    std::string text;
    for (const uint32_t word : state_) text += fmt::format("{:08x}", word);
    return text;
  }

 private:
  void Compress() {
    std::array<uint32_t, 80> w;
    for (size_t t = 0; t < 16; ++t) {
      w[t] = uint32_t{block_[4 * t]} << 24 | uint32_t{block_[4 * t + 1]} << 16 |
             uint32_t{block_[4 * t + 2]} << 8 | block_[4 * t + 3];
    }
    for (size_t t = 16; t < 80; ++t) {
      w[t] = std::rotl(w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16], 1);
    }
    auto [a, b, c, d, e] = state_;
    for (size_t t = 0; t < 80; ++t) {
      const uint32_t f = t < 20   ? (b & c) | (~b & d)
                         : t < 40 ? b ^ c ^ d
                         : t < 60 ? (b & c) | (b & d) | (c & d)
                                  : b ^ c ^ d;
      constexpr uint32_t kRound[] = {0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6};
      const uint32_t next = std::rotl(a, 5) + f + e + kRound[t / 20] + w[t];
      e = d;
      d = c;
      c = std::rotl(b, 30);
      b = a;
      a = next;
    }
    const std::array<uint32_t, 5> sum = {a, b, c, d, e};
    for (size_t i = 0; i < sum.size(); ++i) state_[i] += sum[i];
    filled_ = 0;
  }

  std::array<uint32_t, 5> state_ = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
  std::array<uint8_t, 64> block_{};
  size_t filled_ = 0;
  uint64_t num_bytes_ = 0;
};

}  // namespace

std::string GitBlobId(std::string_view content) {
  Sha1 hash;
  hash.Add(fmt::format("blob {}", content.size()));
  hash.Add(std::string_view("\0", 1));
  hash.Add(content);
  return hash.Finish();
}

}  // namespace trireme::server
