// SPDX-License-Identifier: Apache-2.0
#include "base/crc32c.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

#include "base/cpu_features.h"

namespace trireme {
namespace {

// RFC 3720 appendix B.4, and the check value that catalogues of CRCs list.
TEST(Crc32cTest, PublishedValues) {
  EXPECT_EQ(Crc32c(""), 0u);
  EXPECT_EQ(Crc32c("123456789"), 0xe3069283u);
  EXPECT_EQ(Crc32c(std::string(32, '\0')), 0x8a9136aau);
  EXPECT_EQ(Crc32c(std::string(32, '\xff')), 0x62a8ab43u);
}

TEST(Crc32cTest, BothWaysAgreeAtEveryLengthAndJoint) {
  if (!HostCpuFeatures().avx2) GTEST_SKIP() << "no AVX2";
  std::mt19937 random(7);
  std::string text(40'000, ' ');
  for (char& c : text) c = static_cast<char>(random());
  const auto bytes = std::as_bytes(std::span(text.data(), text.size()));
  for (size_t size : {0, 1, 7, 8, 9, 4095, 12287, 12288, 12289, 24583, 39999}) {
    for (size_t begin : {0, 1, 5}) {
      const auto part = bytes.subspan(begin, std::min(size, bytes.size() - begin));
      EXPECT_EQ(Crc32cStateAvx2(0x1234567, part), Crc32cStateGeneric(0x1234567, part)) << size;
    }
    EXPECT_EQ(Crc32c(bytes.subspan(size), Crc32c(bytes.first(size))), Crc32c(bytes)) << size;
  }
}

TEST(Crc32cTest, OneFlippedBitIsSeen) {
  std::string text(20'000, 'x');
  const uint32_t whole = Crc32c(text);
  for (size_t at = 0; at < text.size(); at += 997) {
    text[at] ^= 1;
    EXPECT_NE(Crc32c(text), whole) << at;
    text[at] ^= 1;
  }
}

}  // namespace
}  // namespace trireme
