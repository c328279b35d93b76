// SPDX-License-Identifier: Apache-2.0
#include "server/batching/queue_scheduler.h"

#include <chrono>

#include "base/status.h"

namespace trireme::server {
namespace {

constexpr std::chrono::nanoseconds kLongWait = std::chrono::seconds(3600);

std::chrono::nanoseconds TimeUntil(int64_t when_ns) {
  if (when_ns == 0) return kLongWait;
  return std::chrono::nanoseconds(std::max<int64_t>(0, when_ns - NowNs()));
}

void FailAll(std::vector<RequestQueue::Dropped>& dropped) {
  for (auto& [call, status] : dropped) call->Fail(std::move(status));
  dropped.clear();
}

}  // namespace

QueueScheduler::QueueScheduler(const ModelConfig& config, RunFn run)
    : run_(std::move(run)), queue_(config) {}

std::shared_ptr<QueueScheduler> QueueScheduler::Start(const ModelConfig& config, RunFn run) {
  std::shared_ptr<QueueScheduler> scheduler(new QueueScheduler(config, std::move(run)));
  QueueScheduler* self = scheduler.get();
  bool watch = false;
  {
    MutexLock lock(self->mutex_);
    watch = self->queue_.has_timeouts();
  }
  for (int i = 0; i < config.num_instances(); ++i) {
    self->threads_.emplace_back([self, i] { self->RunInstance(i); });
  }
  if (watch) self->threads_.emplace_back([self] { self->WatchDeadlines(); });
  return scheduler;
}

QueueScheduler::~QueueScheduler() { Stop(); }

void QueueScheduler::Enqueue(const RequestQueue::Call& call) {
  Status status;
  {
    MutexLock lock(mutex_);
    status = stopping_ ? Unavailable(
                             "Server is stopping, scheduler for model has stopped "
                             "accepting new inference requests")
                       : queue_.Push(call, NowNs());
    if (status.ok()) changed_.NotifyAll();
  }
  if (!status.ok()) return call->Fail(std::move(status));
  call->OnCancel([weak = weak_from_this(), who = call.get()] {
    if (const auto self = weak.lock()) self->Remove(*who);
  });
}

void QueueScheduler::Remove(InferCall& call) {
  {
    MutexLock lock(mutex_);
    if (!queue_.Remove(call)) return;
  }
  call.Fail(Cancelled(""));
}

void QueueScheduler::RunInstance(int instance) {
  std::vector<RequestQueue::Dropped> dropped;
  while (true) {
    RequestQueue::Next next;
    {
      MutexLock lock(mutex_);
      while (!stopping_) {
        next = queue_.Take(NowNs(), dropped);
        if (!next.batch.empty() || !dropped.empty()) break;
        changed_.WaitFor(mutex_, TimeUntil(next.wait_until_ns));
      }
      if (stopping_ && next.batch.empty()) return;
    }
    FailAll(dropped);
    if (!next.batch.empty()) run_(next.batch, instance, next.reason);
  }
}

void QueueScheduler::WatchDeadlines() {
  std::vector<RequestQueue::Dropped> dropped;
  while (true) {
    {
      MutexLock lock(mutex_);
      if (stopping_) return;
      queue_.DropExpired(NowNs(), dropped);
      if (dropped.empty()) changed_.WaitFor(mutex_, TimeUntil(queue_.next_deadline_ns()));
    }
    FailAll(dropped);
  }
}

void QueueScheduler::Stop() {
  std::vector<RequestQueue::Call> left;
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    left = queue_.TakeAll();
    changed_.NotifyAll();
  }
  for (const RequestQueue::Call& call : left) {
    call->Fail(
        Unavailable("Server is stopping, scheduler for model has stopped accepting new "
                    "inference requests"));
  }
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
  threads_.clear();
}

}  // namespace trireme::server
