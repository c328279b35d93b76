// SPDX-License-Identifier: Apache-2.0
#include "base/thread_pool.h"

#include <pthread.h>
#include <sched.h>

#include "base/check.h"
#include "base/cpu_features.h"

namespace trireme {
namespace {

// The task number of a ticket nobody may take.
constexpr uint64_t kClosed = 0xffffffffu;

// Long enough to bridge the serial parts of a step, short enough not to burn an idle machine.
constexpr int kSpins = 20000;

// After that a waiting thread lets others run now and then: on a machine with more threads than
// processors the one it waits for may need the very processor it spins on.
constexpr int kSpinsBeforeYield = 1000;

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Pins the calling thread to the `index`-th processor of the process' set; a refusal is harmless.
void PinToAllowedCpu(int index) {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (::sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return;
  int seen = 0;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed)) continue;
    if (seen++ != index) continue;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    (void)::pthread_setaffinity_np(::pthread_self(), sizeof(one), &one);
    return;
  }
}

}  // namespace

ThreadPool::ThreadPool(int num_threads, bool pin) {
  const int cpus = HostCpuFeatures().num_cpus;
  if (num_threads <= 0) num_threads = cpus;
  for (int worker = 1; worker < num_threads; ++worker) {
    threads_.emplace_back([this, worker, pin, cpus] {
      if (pin) PinToAllowedCpu(worker % cpus);
      WorkerLoop(worker);
    });
  }
}

ThreadPool::~ThreadPool() {
  stop_.store(true);
  epoch_.fetch_add(1);
  epoch_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::PinCaller() {
  if (!threads_.empty()) PinToAllowedCpu(0);
}

void ThreadPool::DrainTasks(uint32_t epoch, int worker) {
  uint64_t ticket = ticket_.load(std::memory_order_acquire);
  while (true) {
    const auto task = static_cast<int64_t>(ticket & 0xffffffffu);
    if (static_cast<uint32_t>(ticket >> 32) != epoch ||
        task >= num_tasks_.load(std::memory_order_acquire)) {
      return;
    }
    // Success means that the loop of `epoch` is still in flight, and it stays so until this task
    // has been counted: what it runs cannot change meanwhile.
    if (!ticket_.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acq_rel,
                                       std::memory_order_acquire)) {
      continue;
    }
    fn_.load(std::memory_order_relaxed)(callable_.load(std::memory_order_relaxed), task, worker);
    done_.fetch_add(1, std::memory_order_release);
    ticket = ticket_.load(std::memory_order_acquire);
  }
}

void ThreadPool::Run(int64_t num_tasks, TaskFn fn, void* callable) {
  TRIREME_CHECK_LT(num_tasks, static_cast<int64_t>(kClosed));
  const uint32_t epoch = epoch_.load(std::memory_order_relaxed) + 1;
  // A late worker may hold the exhausted ticket of the last loop. It must find it gone before it
  // can see the new number of tasks, which would make that ticket look good again.
  ticket_.store(uint64_t{epoch} << 32 | kClosed, std::memory_order_relaxed);
  fn_.store(fn, std::memory_order_relaxed);
  callable_.store(callable, std::memory_order_relaxed);
  num_tasks_.store(num_tasks, std::memory_order_release);
  done_.store(0, std::memory_order_relaxed);
  ticket_.store(uint64_t{epoch} << 32, std::memory_order_release);
  epoch_.store(epoch);
  if (sleepers_.load() > 0) epoch_.notify_all();
  DrainTasks(epoch, 0);
  int spins = 0;
  while (done_.load(std::memory_order_acquire) != num_tasks) {
    if (spins < kSpinsBeforeYield) {
      ++spins;
      Pause();
    } else {
      std::this_thread::yield();
    }
  }
}

void ThreadPool::WorkerLoop(int worker) {
  uint32_t seen = 0;
  while (true) {
    int spins = 0;
    uint32_t epoch = epoch_.load(std::memory_order_acquire);
    while (epoch == seen) {
      if (++spins < kSpins) {
        if (spins % kSpinsBeforeYield == 0) std::this_thread::yield();
        Pause();
      } else {
        // Announced before the last look at the epoch, so that Run either sees the sleeper or the
        // sleeper sees the new epoch.
        sleepers_.fetch_add(1);
        epoch_.wait(seen);
        sleepers_.fetch_sub(1);
      }
      epoch = epoch_.load(std::memory_order_acquire);
    }
    seen = epoch;
    if (stop_.load()) return;
    DrainTasks(epoch, worker);
  }
}

}  // namespace trireme
