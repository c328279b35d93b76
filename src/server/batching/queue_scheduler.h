// SPDX-License-Identifier: Apache-2.0
// Runs a model's batches on one thread per instance. Thread-safe.
#pragma once

#include <memory>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "server/batching/scheduler.h"

namespace trireme::server {

// Shared: a call that waits here names it for the case that it is cancelled, weakly.
class QueueScheduler : public Scheduler, public std::enable_shared_from_this<QueueScheduler> {
 public:
  static std::shared_ptr<QueueScheduler> Start(const ModelConfig& config, RunFn run);
  ~QueueScheduler() override;

  void Enqueue(const RequestQueue::Call& call) override EXCLUDES(mutex_);
  void Stop() override EXCLUDES(mutex_);

 private:
  QueueScheduler(const ModelConfig& config, RunFn run);
  void RunInstance(int instance) EXCLUDES(mutex_);
  // Ends calls whose time is up while every instance is busy.
  void WatchDeadlines() EXCLUDES(mutex_);
  void Remove(InferCall& call) EXCLUDES(mutex_);

  const RunFn run_;
  Mutex mutex_;
  CondVar changed_;
  RequestQueue queue_ GUARDED_BY(mutex_);
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace trireme::server
