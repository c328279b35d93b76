// SPDX-License-Identifier: Apache-2.0
// Clients that come and go, and what a process holds afterwards. Tests only; thread-safe.
#pragma once

#include <gtest/gtest.h>
#include <malloc.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <random>
#include <thread>
#include <vector>

#include "trireme/executor.h"

namespace trireme::executor {

inline int NumThreads() {
  int count = 0;
  for ([[maybe_unused]] const auto& entry :
       std::filesystem::directory_iterator("/proc/self/task")) {
    ++count;
  }
  return count;
}

// Clients on several threads, each request with a callback; a third is cancelled somewhere.
inline void RunClients(Executor& executor, int num_requests, int vocab_size, uint64_t seed,
                       std::atomic<int>& finals) {
  std::vector<std::thread> clients;
  for (int client = 0; client < 4; ++client) {
    clients.emplace_back([&, client] {
      std::mt19937_64 rng(seed + client);
      std::vector<RequestId> open;
      for (int i = 0; i < num_requests / 4; ++i) {
        Request request{.prompt = std::vector<TokenId>(1 + rng() % 40, rng() % vocab_size),
                        .max_tokens = 1 + static_cast<int>(rng() % 30)};
        request.streaming = rng() % 2 == 0;
        auto id = executor.Enqueue(std::move(request), [&finals](Response&& response) {
          EXPECT_TRUE(response.error.ok()) << response.error.ToString();
          finals += response.is_final;
        });
        ASSERT_TRUE(id.ok()) << id.status().ToString();
        open.push_back(*id);
        if (rng() % 3 == 0) executor.Cancel(open[rng() % open.size()]);
      }
    });
  }
  for (std::thread& client : clients) client.join();
}

// 2,000 requests in four rounds: all answered once, no block kept, the heap no larger than after
// the first round. The caller counts the threads.
inline void ExpectNothingLeftBehind(Executor& executor, int vocab_size) {
  constexpr int kRounds = 4;
  constexpr int kRequests = 500;
  size_t bytes_after_warm_up = 0;
  std::atomic<int> finals = 0;
  for (int round = 0; round < kRounds; ++round) {
    RunClients(executor, kRequests, vocab_size, 100 * round, finals);
    while (finals < kRequests * (round + 1)) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    executor.LatestIterationStats();
    if (round == 0) bytes_after_warm_up = mallinfo2().uordblks;
  }
  EXPECT_EQ(executor.Totals().requests_completed, kRounds * kRequests);
  EXPECT_EQ(executor.KvCache().used_num_blocks, 0);
  // Sanitizers replace malloc and report nothing here.
  EXPECT_LE(mallinfo2().uordblks, bytes_after_warm_up + 64 * 1024);
  EXPECT_EQ(finals, kRounds * kRequests);
}

}  // namespace trireme::executor
