// SPDX-License-Identifier: Apache-2.0
// Mutex and lock with clang thread-safety annotations, over std::mutex.
#pragma once

#include <condition_variable>
#include <mutex>

#if defined(__clang__)
#define TRIREME_THREAD_ANNOTATION(x) __attribute__((x))
#else
#define TRIREME_THREAD_ANNOTATION(x)
#endif
#define GUARDED_BY(x) TRIREME_THREAD_ANNOTATION(guarded_by(x))
#define REQUIRES(...) TRIREME_THREAD_ANNOTATION(requires_capability(__VA_ARGS__))
#define EXCLUDES(...) TRIREME_THREAD_ANNOTATION(locks_excluded(__VA_ARGS__))

namespace trireme {

class TRIREME_THREAD_ANNOTATION(capability("mutex")) Mutex {
 public:
  void lock() TRIREME_THREAD_ANNOTATION(acquire_capability()) { mutex_.lock(); }
  void unlock() TRIREME_THREAD_ANNOTATION(release_capability()) { mutex_.unlock(); }

 private:
  std::mutex mutex_;
};

// Holds a Mutex for a scope.
class TRIREME_THREAD_ANNOTATION(scoped_lockable) MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) TRIREME_THREAD_ANNOTATION(acquire_capability(mutex))
      : mutex_(mutex) {
    mutex_.lock();
  }
  ~MutexLock() TRIREME_THREAD_ANNOTATION(release_capability()) { mutex_.unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

// A condition variable that waits on a Mutex the caller holds.
class CondVar {
 public:
  void Wait(Mutex& mutex) REQUIRES(mutex) { cond_.wait(mutex); }
  // Returns false when `timeout` passed without a notification.
  template <typename Rep, typename Period>
  bool WaitFor(Mutex& mutex, std::chrono::duration<Rep, Period> timeout) REQUIRES(mutex) {
    return cond_.wait_for(mutex, timeout) == std::cv_status::no_timeout;
  }
  void NotifyOne() { cond_.notify_one(); }
  void NotifyAll() { cond_.notify_all(); }

 private:
  std::condition_variable_any cond_;
};

}  // namespace trireme
