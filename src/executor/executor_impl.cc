// SPDX-License-Identifier: Apache-2.0
#include "executor/executor_impl.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "base/log_text.h"
#include "base/status.h"

namespace trireme::executor {
namespace {

RequestLimits LimitsOf(const engine::Session& session, const ExecutorConfig& config) {
  return {.vocab_size = session.info().model.vocab_size,
          .max_seq_len = session.limits().max_seq_len,
          .max_num_tokens = session.limits().max_num_tokens,
          .chunked_context = config.enable_chunked_context,
          .block_size = session.kv_layout().block_size,
          .num_blocks = session.num_kv_blocks() - kNumReservedBlocks,
          .kv_window = session.kv_window()};
}

LoopOptions LoopOptionsOf(const ExecutorConfig& config, int max_steps_in_flight) {
  return {.capacity_policy = config.capacity_policy,
          .chunking_policy = config.chunking_policy,
          .chunked_context = config.enable_chunked_context,
          .enable_block_reuse = config.kv_cache.enable_block_reuse,
          .max_steps_in_flight = max_steps_in_flight};
}

// `from` plus `duration`, the end of time when that lies beyond it.
Clock::time_point AddCapped(Clock::time_point from, std::chrono::milliseconds duration) {
  const auto room =
      std::chrono::duration_cast<std::chrono::milliseconds>(Clock::time_point::max() - from);
  return duration >= room ? Clock::time_point::max() : from + duration;
}

}  // namespace

StatusOr<std::unique_ptr<Executor>> ExecutorImpl::Create(std::unique_ptr<engine::Session> session,
                                                         const ExecutorConfig& config,
                                                         int max_steps_in_flight) {
  TRIREME_RETURN_IF_ERROR(ValidateConfig(config));
  const engine::SessionLimits& limits = session->limits();
  if (limits.max_batch_size < 1 || limits.max_num_tokens < 1 || limits.max_seq_len < 2 ||
      session->num_kv_blocks() <= kNumReservedBlocks) {
    return InvalidArgument(
        "the engine allows nothing to run: max_batch_size {}, max_num_tokens {}, max_seq_len {}, "
        "{} KV blocks; raise the limits or give the KV cache more memory",
        limits.max_batch_size, limits.max_num_tokens, limits.max_seq_len,
        session->num_kv_blocks() - kNumReservedBlocks);
  }
  return std::unique_ptr<Executor>(
      new ExecutorImpl(std::move(session), config, max_steps_in_flight));
}

ExecutorImpl::ExecutorImpl(std::unique_ptr<engine::Session> session, const ExecutorConfig& config,
                           int max_steps_in_flight)
    : session_(std::move(session)),
      info_(session_->info()),
      limits_(LimitsOf(*session_, config)),
      max_queue_size_(config.max_queue_size),
      max_iterations_kept_(config.iter_stats_max_iterations),
      loop_(*session_, LoopOptionsOf(config, max_steps_in_flight)) {
  Publish();
  engine_thread_ = std::thread([this] { RunEngine(); });
}

ExecutorImpl::~ExecutorImpl() { Shutdown(std::chrono::milliseconds(0)); }

StatusOr<RequestId> ExecutorImpl::Enqueue(Request request) {
  return Enqueue(std::move(request), nullptr);
}

StatusOr<RequestId> ExecutorImpl::Enqueue(Request request, ResponseCallback on_response) {
  TRIREME_RETURN_IF_ERROR(ValidateRequest(request, limits_));
  auto active = std::make_unique<ActiveRequest>();
  active->arrival = Clock::now();
  if (request.timeout_ms > 0) {
    active->deadline = AddCapped(active->arrival, std::chrono::milliseconds(request.timeout_ms));
  }
  active->request = std::move(request);

  MutexLock lock(mutex_);
  if (!failure_.ok()) return failure_;
  if (shutting_down_) return Unavailable("the executor is shutting down and takes no new request");
  if (max_queue_size_ > 0 && num_queued_ >= max_queue_size_) {
    return ResourceExhausted(
        "{} requests are waiting, as many as max_queue_size allows; try again later", num_queued_);
  }
  if (!on_response && router_.IsFull()) {
    return ResourceExhausted(
        "responses of earlier requests lie unread; read them with AwaitResponses, or give Enqueue "
        "a "
        "callback");
  }
  const RequestId id = ++last_id_;
  active->id = id;
  router_.Open(id, std::move(on_response));
  commands_.push_back({.id = id, .request = std::move(active)});
  ++num_queued_;
  commands_changed_.NotifyOne();
  return id;
}

std::vector<Response> ExecutorImpl::AwaitResponses(std::optional<RequestId> id,
                                                   std::chrono::milliseconds timeout) {
  return router_.Await(id, timeout);
}

int ExecutorImpl::NumResponsesReady(std::optional<RequestId> id) const {
  return router_.NumReady(id);
}

void ExecutorImpl::Cancel(RequestId id) {
  MutexLock lock(mutex_);
  commands_.push_back({.id = id});
  commands_changed_.NotifyOne();
}

std::vector<IterationStats> ExecutorImpl::LatestIterationStats() {
  MutexLock lock(mutex_);
  std::deque<IterationStats> taken = std::exchange(iterations_, {});
  return {taken.begin(), taken.end()};
}

ExecutorTotals ExecutorImpl::Totals() const {
  MutexLock lock(mutex_);
  return totals_;
}

KvCacheStats ExecutorImpl::KvCache() const {
  MutexLock lock(mutex_);
  return cache_stats_;
}

bool ExecutorImpl::IsHealthy() const {
  MutexLock lock(mutex_);
  return failure_.ok();
}

void ExecutorImpl::Shutdown(std::chrono::milliseconds drain) {
  {
    MutexLock lock(mutex_);
    const Clock::time_point end = AddCapped(Clock::now(), drain);
    drain_end_ = shutting_down_ ? std::min(drain_end_, end) : end;
    shutting_down_ = true;
    commands_changed_.NotifyOne();
  }
  MutexLock lock(shutdown_mutex_);
  if (engine_thread_.joinable()) engine_thread_.join();
  router_.Close();
}

void ExecutorImpl::RunEngine() {
  std::deque<Command> commands;
  while (TakeCommands(commands)) {
    Apply(commands);
    Turn();
    Publish();
    router_.Deliver(loop_.TakeResponses());
  }
}

bool ExecutorImpl::TakeCommands(std::deque<Command>& commands) {
  bool drain_is_over = false;
  {
    MutexLock lock(mutex_);
    while (commands_.empty() && !loop_.HasWork() && !shutting_down_) {
      commands_changed_.Wait(mutex_);
    }
    commands.swap(commands_);
    if (shutting_down_ && commands.empty() && !loop_.HasWork()) return false;
    drain_is_over = shutting_down_ && Clock::now() >= drain_end_;
  }
  if (drain_is_over) {
    Apply(commands);
    loop_.CancelAll();
  }
  return true;
}

void ExecutorImpl::Apply(std::deque<Command>& commands) {
  for (Command& command : commands) {
    if (command.request == nullptr) {
      loop_.Cancel(command.id);
    } else {
      loop_.Add(std::move(command.request));
    }
  }
  commands.clear();
}

void ExecutorImpl::Turn() {
  loop_.ExpireDeadlines(Clock::now());
  const Status status = loop_.Advance();
  if (status.ok()) return;
  LogError("engine_failed error={}", Quoted(status.ToString()));
  const Status failure = status.WithContext("the engine failed and takes no more requests");
  loop_.Fail(failure);
  MutexLock lock(mutex_);
  failure_ = failure;
}

void ExecutorImpl::Publish() {
  MutexLock lock(mutex_);
  totals_ = loop_.totals();
  cache_stats_ = loop_.cache_stats();
  num_queued_ = loop_.num_unstarted_requests();
  for (const Command& command : commands_) num_queued_ += command.request != nullptr;
  for (IterationStats& stats : loop_.TakeIterations()) {
    if (max_iterations_kept_ == 0) break;
    if (iterations_.size() == max_iterations_kept_) iterations_.pop_front();
    iterations_.push_back(stats);
  }
}

}  // namespace trireme::executor
