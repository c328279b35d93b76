// SPDX-License-Identifier: Apache-2.0
// A fixed team of threads for data-parallel loops. One caller at a time owns a pool.
//
// Workers spin for a few microseconds between loops (a decode step is hundreds of short loops) and
// sleep when nothing comes. The caller is worker 0, so a pool of N uses N processors, not N + 1.
//
// What one loop costs is the cache lines that travel between processors: a loop is announced in one
// line, every worker counts down its own share in a line of its own, and reports once at its end.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <thread>
#include <type_traits>
#include <vector>

namespace trireme {

class ThreadPool {
 public:
  // `num_threads` counts the caller; 0 takes one per processor this process may use. With `pin`,
  // worker i stays on the i-th allowed processor (the caller is left where it is).
  explicit ThreadPool(int num_threads, bool pin = true);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return static_cast<int>(threads_.size()) + 1; }

  // Keeps the calling thread on the first allowed processor, which no worker is pinned to. For the
  // one thread that will call ParallelFor; left free it may share a worker's processor.
  void PinCaller();

  // Calls fn(task, worker) once for each task in [0, num_tasks), worker in [0, num_threads), and
  // returns when all calls have. A worker runs its share of consecutive tasks in rising order, then
  // what others have not begun of theirs. `fn` must not call ParallelFor of the same pool.
  template <typename Fn>
  void ParallelFor(int64_t num_tasks, Fn&& fn) {
    ParallelFor(
        num_tasks, [](int) {}, std::forward<Fn>(fn));
  }

  // ... and prepare(worker) before the first task of each worker that runs any.
  template <typename Prepare, typename Fn>
  void ParallelFor(int64_t num_tasks, Prepare&& prepare, Fn&& fn) {
    if (num_tasks <= 0) return;
    if (threads_.empty() || num_tasks == 1) {
      prepare(0);
      for (int64_t task = 0; task < num_tasks; ++task) fn(task, 0);
      return;
    }
    const auto both = [&prepare, &fn](int64_t task, int worker) {
      if (task == kPrepare) {
        prepare(worker);
      } else {
        fn(task, worker);
      }
    };
    Run(
        num_tasks,
        [](const void* callable, int64_t task, int worker) {
          (*static_cast<decltype(&both)>(callable))(task, worker);
        },
        &both);
  }

  // What a later loop of `num_tasks` tasks reads, `task_bytes` each. Workers that wait for others,
  // or for that loop, ask for the first of it meanwhile. Stands until the next call.
  struct Upcoming {
    const std::byte* data = nullptr;
    int64_t num_tasks = 0;
    int64_t task_bytes = 0;
  };
  void Announce(const Upcoming& upcoming) { upcoming_ = upcoming; }

 private:
  using TaskFn = void (*)(const void* callable, int64_t task, int worker);
  static constexpr int64_t kPrepare = -1;

  // A loop as a worker sees it.
  struct Job {
    uint32_t epoch = 0;
    TaskFn fn = nullptr;
    const void* callable = nullptr;
    int64_t num_tasks = 0;
    Upcoming upcoming;
  };

  // The same, announced: fields may be read while `epoch` is even, and are those of one loop when
  // it has not changed meanwhile.
  struct alignas(64) Announced {
    std::atomic<uint32_t> epoch{0};
    std::atomic<TaskFn> fn{nullptr};
    std::atomic<const void*> callable{nullptr};
    std::atomic<int64_t> num_tasks{0};
    std::atomic<const std::byte*> upcoming_data{nullptr};
    std::atomic<int64_t> upcoming_tasks{0};
    std::atomic<int64_t> upcoming_task_bytes{0};
  };

  // Both epoch << 32 | a number; those of an older epoch say that the share is untouched, or that
  // the worker has not ended.
  struct Share {
    alignas(64) std::atomic<uint64_t> next{0};   // task of the share that is free
    alignas(64) std::atomic<uint64_t> ended{0};  // tasks that the share's owner ran, its own or not
  };

  // The announced memory that one worker has not asked for yet.
  struct IdleReads {
    const std::byte* source = nullptr;
    const std::byte* at = nullptr;
    const std::byte* end = nullptr;
  };

  void Run(int64_t num_tasks, TaskFn fn, const void* callable);
  void Publish(const Job& job);
  std::optional<Job> Snapshot(uint32_t epoch) const;
  void WorkerLoop(int worker);
  int64_t Drain(const Job& job, int worker);
  int64_t Claim(const Job& job, int owner);
  int64_t FirstTask(int64_t num_tasks, int worker) const;
  void CloseShares(uint32_t epoch);
  void AwaitWorkers(const Job& job, int64_t own_tasks);
  void Retarget(const Upcoming& upcoming, int worker, IdleReads& reads) const;
  static bool ReadAhead(IdleReads& reads);

  Announced announced_;
  std::unique_ptr<Share[]> shares_;
  alignas(64) std::atomic<int> sleepers_{0};
  std::atomic<bool> stop_{false};
  Upcoming upcoming_;
  IdleReads caller_reads_;
  std::vector<std::thread> threads_;
};

}  // namespace trireme
