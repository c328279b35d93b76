// SPDX-License-Identifier: Apache-2.0
#include "base/thread_pool.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <array>
#include <chrono>
#include <vector>

#include "base/cpu_features.h"

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

// A thread that is pinned leaves its one processor to the threads it starts; a pool of its own must
// not have all its workers there.
TEST(ThreadPoolTest, WorkersOfAPinnedThreadKeepTheirProcessors) {
  if (HostCpuFeatures().num_cpus < 2) GTEST_SKIP() << "one processor";
  std::thread([] {
    ThreadPool outer(2);
    outer.PinCaller();
    ThreadPool inner(2);
    inner.PinCaller();
    std::atomic<int> arrived{0};
    std::array<int, 2> cpus{-1, -1};
    inner.ParallelFor(2, [&](int64_t, int worker) {
      ++arrived;
      while (arrived < 2) std::this_thread::yield();  // one task for each thread
      cpus[static_cast<size_t>(worker)] = ::sched_getcpu();
    });
    EXPECT_NE(cpus[0], cpus[1]);
  }).join();
}

TEST(ThreadPoolTest, PreparesEachWorkerThatRunsOnce) {
  ThreadPool pool(3);
  for (int64_t tasks : {1, 2, 3, 100}) {
    std::array<std::atomic<int>, 3> prepared{};
    std::array<std::atomic<int>, 3> ran{};
    pool.ParallelFor(
        tasks, [&](int worker) { ++prepared[static_cast<size_t>(worker)]; },
        [&](int64_t, int worker) {
          EXPECT_EQ(prepared[static_cast<size_t>(worker)], 1);
          ++ran[static_cast<size_t>(worker)];
        });
    int total = 0;
    for (size_t worker = 0; worker < 3; ++worker) {
      EXPECT_EQ(prepared[worker], ran[worker] > 0 ? 1 : 0);
      total += ran[worker];
    }
    EXPECT_EQ(total, tasks);
  }
}

// What is announced is only asked for: the end of a share, odd sizes and memory that is gone must
// not disturb a loop.
TEST(ThreadPoolTest, AnnouncedMemoryChangesNothing) {
  ThreadPool pool(3);
  for (int round = 0; round < 2000; ++round) {
    std::vector<std::byte> memory(static_cast<size_t>(1 + round * 37));
    pool.Announce({memory.data(), 1 + round % 9, static_cast<int64_t>(memory.size()) / 9});
    std::atomic<int> sum{0};
    pool.ParallelFor(5, [&](int64_t task, int) { sum += static_cast<int>(task); });
    ASSERT_EQ(sum.load(), 10);
  }
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
