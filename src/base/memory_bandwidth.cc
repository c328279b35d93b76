// SPDX-License-Identifier: Apache-2.0
#include "base/memory_bandwidth.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>

#include "base/cpu_features.h"

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
  double best = 0;
  std::thread([&] {
    pool_.PinCaller();
    best = BestPass();
  }).join();
  return best;
}

double ReadBandwidthMeter::BestPass() {
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

double ProcessorHopNs() {
  constexpr int kBatches = 8;
  constexpr int kRounds = 2000;
  if (HostCpuFeatures().num_cpus < 2) return 0;
  ThreadPool pool(2);
  double best_s = 1e300;
  std::thread([&] {
    pool.PinCaller();
    for (int batch = 0; batch < kBatches; ++batch) {
      // Each task waits for the other's move: the threads of a pool take one each.
      std::atomic<int> turn{0};
      const auto begin = std::chrono::steady_clock::now();
      pool.ParallelFor(2, [&](int64_t task, int) {
        for (int round = static_cast<int>(task); round < 2 * kRounds; round += 2) {
          while (turn.load(std::memory_order_acquire) != round) {
          }
          turn.store(round + 1, std::memory_order_release);
        }
      });
      const std::chrono::duration<double> time = std::chrono::steady_clock::now() - begin;
      best_s = std::min(best_s, time.count());
    }
  }).join();
  return best_s / (2 * kRounds) * 1e9;
}

}  // namespace trireme
