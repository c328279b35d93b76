// SPDX-License-Identifier: Apache-2.0
// ExecutorImpl: the executor over any session. One engine thread turns the loop, one output thread
// runs callbacks. Thread-safe.
#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "engine/session.h"
#include "executor/engine_loop.h"
#include "executor/response_router.h"
#include "executor/validation.h"
#include "trireme/executor.h"

namespace trireme::executor {

class ExecutorImpl final : public Executor {
 public:
  // `max_steps_in_flight`: 1 for a session that computes inside Forward, 2 for one that runs behind.
  static StatusOr<std::unique_ptr<Executor>> Create(std::unique_ptr<engine::Session> session,
                                                    const ExecutorConfig& config,
                                                    int max_steps_in_flight = 1);
  ~ExecutorImpl() override;

  StatusOr<RequestId> Enqueue(Request request) override;
  StatusOr<RequestId> Enqueue(Request request, ResponseCallback on_response) override;
  std::vector<Response> AwaitResponses(std::optional<RequestId> id,
                                       std::chrono::milliseconds timeout) override;
  int NumResponsesReady(std::optional<RequestId> id) const override;
  void Cancel(RequestId id) override;
  std::vector<IterationStats> LatestIterationStats() override;
  ExecutorTotals Totals() const override;
  KvCacheStats KvCache() const override;
  const EngineInfo& Info() const override { return info_; }
  bool IsHealthy() const override;
  void Shutdown(std::chrono::milliseconds drain) override;

 private:
  // What the engine thread is told; an empty request means: cancel `id`.
  struct Command {
    RequestId id = 0;
    std::unique_ptr<ActiveRequest> request;
  };

  ExecutorImpl(std::unique_ptr<engine::Session> session, const ExecutorConfig& config,
               int max_steps_in_flight);

  void RunEngine();
  // Waits while there is nothing to do. False when the thread shall end.
  bool TakeCommands(std::deque<Command>& commands) EXCLUDES(mutex_);
  void Apply(std::deque<Command>& commands);
  void Turn();
  void Publish() EXCLUDES(mutex_);

  const std::unique_ptr<engine::Session> session_;
  const EngineInfo info_;
  const RequestLimits limits_;
  const int max_queue_size_;
  const size_t max_iterations_kept_;
  EngineLoop loop_;  // engine thread only
  ResponseRouter router_;

  mutable Mutex mutex_;
  CondVar commands_changed_;
  std::deque<Command> commands_ GUARDED_BY(mutex_);
  RequestId last_id_ GUARDED_BY(mutex_) = 0;
  int num_queued_ GUARDED_BY(mutex_) = 0;  // accepted and not started, as far as known
  bool shutting_down_ GUARDED_BY(mutex_) = false;
  Clock::time_point drain_end_ GUARDED_BY(mutex_);
  Status failure_ GUARDED_BY(mutex_);
  ExecutorTotals totals_ GUARDED_BY(mutex_);
  KvCacheStats cache_stats_ GUARDED_BY(mutex_);
  std::deque<IterationStats> iterations_ GUARDED_BY(mutex_);

  Mutex shutdown_mutex_;
  std::thread engine_thread_;  // joined under shutdown_mutex_
};

}  // namespace trireme::executor
