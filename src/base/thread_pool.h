// SPDX-License-Identifier: Apache-2.0
// A fixed team of threads for data-parallel loops. One caller at a time owns a pool.
//
// Workers spin for a few microseconds between loops (a decode step is hundreds of short loops) and
// sleep when nothing comes. The caller is worker 0, so a pool of N uses N processors, not N + 1.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
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
  // returns when all calls have. Tasks are handed out one by one in rising order. `fn` must not
  // call ParallelFor of the same pool.
  template <typename Fn>
  void ParallelFor(int64_t num_tasks, Fn&& fn) {
    if (num_tasks <= 0) return;
    if (threads_.empty() || num_tasks == 1) {
      for (int64_t task = 0; task < num_tasks; ++task) fn(task, 0);
      return;
    }
    using Callable = std::remove_reference_t<Fn>;
    Run(
        num_tasks,
        [](void* callable, int64_t task, int worker) {
          (*static_cast<Callable*>(callable))(task, worker);
        },
        const_cast<void*>(static_cast<const void*>(&fn)));
  }

 private:
  using TaskFn = void (*)(void* callable, int64_t task, int worker);

  void Run(int64_t num_tasks, TaskFn fn, void* callable);
  void WorkerLoop(int worker);
  void DrainTasks(uint32_t epoch, int worker);

  // The loop in flight. A loop ends when its tasks have, not when every worker has looked at it: a
  // worker that gets no processor for a while delays nobody. A late worker finds another epoch in
  // the ticket and takes nothing.
  std::atomic<TaskFn> fn_{nullptr};
  std::atomic<void*> callable_{nullptr};
  std::atomic<int64_t> num_tasks_{0};
  alignas(64) std::atomic<uint64_t> ticket_{0};  // epoch << 32 | next task
  alignas(64) std::atomic<int64_t> done_{0};     // tasks that have ended
  alignas(64) std::atomic<uint32_t> epoch_{0};
  alignas(64) std::atomic<int> sleepers_{0};
  std::atomic<bool> stop_{false};
  std::vector<std::thread> threads_;
};

}  // namespace trireme
