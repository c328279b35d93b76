// SPDX-License-Identifier: Apache-2.0
#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <chrono>
#include <vector>

namespace trireme {
namespace {

TEST(ThreadPoolTest, EveryTaskRunsOnce) {
  for (int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.num_threads(), threads);
    for (int64_t tasks : {0, 1, 2, 7, 1000}) {
      std::vector<int> counts(static_cast<size_t>(tasks), 0);
      pool.ParallelFor(tasks, [&](int64_t task, int worker) {
        EXPECT_GE(worker, 0);
        EXPECT_LT(worker, threads);
        counts[static_cast<size_t>(task)]++;
      });
      for (int count : counts) EXPECT_EQ(count, 1);
    }
  }
}

TEST(ThreadPoolTest, WakesSleepingWorkers) {
  ThreadPool pool(3);
  for (int round = 0; round < 20; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(3));
    std::atomic<int> sum{0};
    pool.ParallelFor(64, [&](int64_t task, int) { sum += static_cast<int>(task); });
    EXPECT_EQ(sum.load(), 64 * 63 / 2);
  }
}

TEST(ThreadPoolTest, ManyShortLoops) {
  ThreadPool pool(2);
  std::atomic<int64_t> sum{0};
  for (int round = 0; round < 20000; ++round) {
    pool.ParallelFor(2, [&](int64_t, int) { sum.fetch_add(1, std::memory_order_relaxed); });
  }
  EXPECT_EQ(sum.load(), 40000);
}

// A worker that is late from a short loop must take nothing of the longer one that follows before
// that one has begun.
TEST(ThreadPoolTest, LoopsOfChangingLengthRunEveryTaskOnce) {
  ThreadPool pool(4);
  std::vector<int64_t> counts(8, 0);
  for (int round = 0; round < 3000000; ++round) {
    const int64_t tasks = 2 + round % 7;
    pool.ParallelFor(tasks, [&](int64_t task, int) { counts[static_cast<size_t>(task)]++; });
    for (int64_t task = 0; task < tasks; ++task) {
      ASSERT_EQ(counts[static_cast<size_t>(task)], 1) << "round " << round << " task " << task;
      counts[static_cast<size_t>(task)] = 0;
    }
  }
}

}  // namespace
}  // namespace trireme
