// SPDX-License-Identifier: Apache-2.0
#include "base/thread_pool.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>

#include "base/check.h"
#include "base/cpu_features.h"

namespace trireme {
namespace {

// Long enough to bridge the serial parts of a step, short enough not to burn an idle machine.
constexpr int kSpins = 20000;

// After that a waiting thread lets others run now and then: on a machine with more threads than
// processors the one it waits for may need the very processor it spins on.
constexpr int kSpinsBeforeYield = 1000;

// Of the announced memory that a waiting worker asks for: what its second level cache keeps beside
// what the loops before need. In a waiting loop, the lines of one round.
constexpr int64_t kIdleReadBytes = 256 * 1024;
constexpr int64_t kIdleReadStep = 256;
constexpr int64_t kCacheLine = 64;

// A task number beyond every share.
constexpr int64_t kClosed = 0xffffffff;
// Epochs are compared by their distance, so that a share no loop has used must not fall behind.
constexpr uint32_t kEpochsPerRefresh = 1 << 20;

uint64_t Stamp(uint32_t epoch, int64_t number) {
  return uint64_t{epoch} << 32 | static_cast<uint32_t>(number);
}
uint32_t EpochOf(uint64_t stamp) { return static_cast<uint32_t>(stamp >> 32); }
int64_t NumberOf(uint64_t stamp) { return static_cast<int64_t>(stamp & 0xffffffffu); }

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// The processors this process may use, as the first pool found them: a thread that pins itself
// leaves its own narrower set to every thread it starts.
const cpu_set_t& AllowedCpus() {
  static const cpu_set_t allowed = [] {
    cpu_set_t set;
    if (::sched_getaffinity(0, sizeof(set), &set) != 0) CPU_ZERO(&set);
    return set;
  }();
  return allowed;
}

// Pins the calling thread to the `index`-th of them; a refusal is harmless.
void PinToAllowedCpu(int index) {
  int seen = 0;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &AllowedCpus())) continue;
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
  (void)AllowedCpus();
  if (num_threads <= 0) num_threads = cpus;
  shares_ = std::make_unique<Share[]>(static_cast<size_t>(num_threads));
  for (int worker = 1; worker < num_threads; ++worker) {
    threads_.emplace_back([this, worker, pin, cpus] {
      if (pin) PinToAllowedCpu(worker % cpus);
      WorkerLoop(worker);
    });
  }
}

ThreadPool::~ThreadPool() {
  stop_.store(true);
  announced_.epoch.fetch_add(2);
  announced_.epoch.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::PinCaller() {
  if (!threads_.empty()) PinToAllowedCpu(0);
}

int64_t ThreadPool::FirstTask(int64_t num_tasks, int worker) const {
  return num_tasks * worker / num_threads();
}

// The next free task of `owner`'s share, or -1. A loop ends when its tasks have, not when every
// worker has looked at it: a worker that gets no processor for a while delays nobody. When it comes
// late, every share that holds tasks carries its epoch or a later one, with nothing left.
int64_t ThreadPool::Claim(const Job& job, int owner) {
  std::atomic<uint64_t>& next = shares_[static_cast<size_t>(owner)].next;
  const int64_t end = FirstTask(job.num_tasks, owner + 1);
  uint64_t stamp = next.load(std::memory_order_acquire);
  while (true) {
    const auto age = static_cast<int32_t>(EpochOf(stamp) - job.epoch);
    if (age > 0) return -1;
    const int64_t task = age == 0 ? NumberOf(stamp) : FirstTask(job.num_tasks, owner);
    if (task >= end) return -1;
    if (next.compare_exchange_weak(stamp, Stamp(job.epoch, task + 1), std::memory_order_acq_rel,
                                   std::memory_order_acquire)) {
      return task;
    }
  }
}

// Runs tasks until none is free; returns how many.
int64_t ThreadPool::Drain(const Job& job, int worker) {
  int64_t ran = 0;
  for (int i = 0; i < num_threads(); ++i) {
    const int owner = (worker + i) % num_threads();
    for (int64_t task = Claim(job, owner); task >= 0; task = Claim(job, owner)) {
      if (ran++ == 0) job.fn(job.callable, kPrepare, worker);
      job.fn(job.callable, task, worker);
    }
  }
  return ran;
}

void ThreadPool::Publish(const Job& job) {
  constexpr auto kRelaxed = std::memory_order_relaxed;
  // Odd while the fields change. A worker that reads one of the new fields then sees that, too.
  announced_.epoch.store(job.epoch - 1, kRelaxed);
  announced_.fn.store(job.fn, std::memory_order_release);
  announced_.callable.store(job.callable, std::memory_order_release);
  announced_.num_tasks.store(job.num_tasks, std::memory_order_release);
  announced_.upcoming_data.store(job.upcoming.data, std::memory_order_release);
  announced_.upcoming_tasks.store(job.upcoming.num_tasks, std::memory_order_release);
  announced_.upcoming_task_bytes.store(job.upcoming.task_bytes, std::memory_order_release);
  announced_.epoch.store(job.epoch);
  if (sleepers_.load() > 0) announced_.epoch.notify_all();
}

// The loop of `epoch`, or nothing when it is no longer the one announced.
std::optional<ThreadPool::Job> ThreadPool::Snapshot(uint32_t epoch) const {
  constexpr auto kAcquire = std::memory_order_acquire;
  if (epoch % 2 != 0) return std::nullopt;
  Job job;
  job.epoch = epoch;
  job.fn = announced_.fn.load(kAcquire);
  job.callable = announced_.callable.load(kAcquire);
  job.num_tasks = announced_.num_tasks.load(kAcquire);
  job.upcoming.data = announced_.upcoming_data.load(kAcquire);
  job.upcoming.num_tasks = announced_.upcoming_tasks.load(kAcquire);
  job.upcoming.task_bytes = announced_.upcoming_task_bytes.load(kAcquire);
  if (announced_.epoch.load(std::memory_order_relaxed) != epoch) return std::nullopt;
  return job;
}

void ThreadPool::Run(int64_t num_tasks, TaskFn fn, const void* callable) {
  TRIREME_CHECK_LT(num_tasks, kClosed);
  const uint32_t epoch = announced_.epoch.load(std::memory_order_relaxed) + 2;
  if (epoch % kEpochsPerRefresh == 0) CloseShares(epoch - 2);
  const Job job{epoch, fn, callable, num_tasks, upcoming_};
  Publish(job);
  const int64_t own_tasks = Drain(job, 0);
  Retarget(job.upcoming, 0, caller_reads_);
  AwaitWorkers(job, own_tasks);
}

// Between loops, when no share holds a task.
void ThreadPool::CloseShares(uint32_t epoch) {
  for (int worker = 0; worker < num_threads(); ++worker) {
    shares_[static_cast<size_t>(worker)].next.store(Stamp(epoch, kClosed),
                                                    std::memory_order_relaxed);
  }
}

void ThreadPool::AwaitWorkers(const Job& job, int64_t own_tasks) {
  int spins = 0;
  while (true) {
    int64_t ended = own_tasks;
    for (int worker = 1; worker < num_threads(); ++worker) {
      const uint64_t stamp =
          shares_[static_cast<size_t>(worker)].ended.load(std::memory_order_acquire);
      if (EpochOf(stamp) == job.epoch) ended += NumberOf(stamp);
    }
    if (ended == job.num_tasks) return;
    if (ReadAhead(caller_reads_)) continue;
    if (spins < kSpinsBeforeYield) {
      ++spins;
      Pause();
    } else {
      std::this_thread::yield();
    }
  }
}

// Points `reads` at the front of the worker's share of what is announced, once for each
// announcement.
void ThreadPool::Retarget(const Upcoming& upcoming, int worker, IdleReads& reads) const {
  if (reads.source == upcoming.data) return;
  reads.source = upcoming.data;
  const int64_t first = FirstTask(upcoming.num_tasks, worker) * upcoming.task_bytes;
  const int64_t end = FirstTask(upcoming.num_tasks, worker + 1) * upcoming.task_bytes;
  reads.at = upcoming.data + first;
  reads.end = reads.at + std::min(end - first, kIdleReadBytes);
}

// Asks for the next few lines; false when nothing is left to ask for.
bool ThreadPool::ReadAhead(IdleReads& reads) {
  if (reads.end - reads.at < kIdleReadStep) return false;
  for (int64_t i = 0; i < kIdleReadStep; i += kCacheLine) __builtin_prefetch(reads.at + i, 0, 2);
  reads.at += kIdleReadStep;
  return true;
}

void ThreadPool::WorkerLoop(int worker) {
  uint32_t seen = 0;
  IdleReads reads;
  while (true) {
    int spins = 0;
    std::optional<Job> job;
    uint32_t epoch = announced_.epoch.load(std::memory_order_acquire);
    while (epoch == seen || !(job = Snapshot(epoch))) {
      if (stop_.load(std::memory_order_relaxed)) return;
      if (++spins < kSpins) {
        if (spins % kSpinsBeforeYield == 0) std::this_thread::yield();
        if (!ReadAhead(reads)) Pause();
      } else if (epoch == seen) {
        // Announced before the last look at the epoch, so that Run either sees the sleeper or the
        // sleeper sees the new epoch.
        sleepers_.fetch_add(1);
        announced_.epoch.wait(seen);
        sleepers_.fetch_sub(1);
      }
      epoch = announced_.epoch.load(std::memory_order_acquire);
    }
    seen = epoch;
    if (stop_.load()) return;
    const int64_t ran = Drain(*job, worker);
    shares_[static_cast<size_t>(worker)].ended.store(Stamp(epoch, ran), std::memory_order_release);
    Retarget(job->upcoming, worker, reads);
  }
}

}  // namespace trireme
