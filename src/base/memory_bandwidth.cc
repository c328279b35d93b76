// SPDX-License-Identifier: Apache-2.0
#include "base/memory_bandwidth.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>

namespace trireme {
namespace {

constexpr int64_t kBytes = int64_t{512} << 20;
constexpr int kPasses = 4;

// Touches every cache line of a piece; returns something that depends on all of them.
uint64_t ReadPiece(const std::byte* data, int64_t begin, int64_t end) {
  uint64_t sum[4] = {};
  for (int64_t at = begin; at + 256 <= end; at += 256) {
    for (int i = 0; i < 4; ++i) {
      __builtin_prefetch(data + at + 4096 + i * 64);
      uint64_t word;
      std::memcpy(&word, data + at + i * 64, sizeof(word));
      sum[i] ^= word;
    }
  }
  return sum[0] ^ sum[1] ^ sum[2] ^ sum[3];
}

}  // namespace

ReadBandwidthMeter::ReadBandwidthMeter(int num_threads) : pool_(num_threads), buffer_(kBytes) {
  buffer_.UseHugePages();
  std::memset(buffer_.data(), 1, static_cast<size_t>(kBytes));
}

double ReadBandwidthMeter::Measure() {
  const int64_t pieces = int64_t{8} * pool_.num_threads();
  const int64_t piece = kBytes / pieces / 256 * 256;
  std::atomic<uint64_t> sink{0};
  double best_s = 1e300;
  for (int pass = 0; pass < kPasses; ++pass) {
    const auto begin = std::chrono::steady_clock::now();
    pool_.ParallelFor(pieces, [&](int64_t task, int) {
      sink.fetch_xor(ReadPiece(buffer_.data(), task * piece, (task + 1) * piece),
                     std::memory_order_relaxed);
    });
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - begin;
    best_s = std::min(best_s, time.count());
  }
  return static_cast<double>(piece * pieces) / best_s;
}

}  // namespace trireme
