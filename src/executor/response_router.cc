// SPDX-License-Identifier: Apache-2.0
#include "executor/response_router.h"

#include <algorithm>
#include <utility>

namespace trireme::executor {
namespace {

// Longer waits are split: now plus a huge duration overflows the clock.
constexpr std::chrono::milliseconds kLongestWait = std::chrono::hours(1);

int64_t BytesOf(const Response& response) {
  const size_t values = response.tokens.size() + response.log_probs.size() +
                        response.context_logits.size() + response.generation_logits.size();
  return static_cast<int64_t>(sizeof(Response) + 4 * values);
}

template <typename T>
void Append(std::vector<T>& to, const std::vector<T>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

}  // namespace

ResponseRouter::ResponseRouter() : callback_thread_([this] { RunCallbacks(); }) {}

ResponseRouter::~ResponseRouter() { Close(); }

void ResponseRouter::Open(RequestId id, Executor::ResponseCallback on_response) {
  MutexLock lock(mutex_);
  routes_[id].on_response = std::move(on_response);
}

void ResponseRouter::Deliver(std::vector<Response> responses) {
  if (responses.empty()) return;
  MutexLock lock(mutex_);
  for (Response& response : responses) {
    auto route = routes_.find(response.request_id);
    if (route == routes_.end()) continue;
    if (route->second.on_response) {
      for_callbacks_.push_back(std::move(response));
    } else {
      ready_ids_.insert(response.request_id);
      Keep(std::move(response), route->second);
    }
  }
  ready_changed_.NotifyAll();
  callbacks_changed_.NotifyOne();
}

// A reader that falls behind gets more tokens at once, not more and more responses.
void ResponseRouter::Keep(Response response, Route& route) {
  unread_bytes_ += BytesOf(response);
  num_unread_ += response.is_final;
  auto last = route.ready.rend();
  if (route.ready.size() >= kMaxPieces && !response.is_sequence_final) {
    last = std::find_if(route.ready.rbegin(), route.ready.rend(), [&](const Response& earlier) {
      return earlier.sequence_index == response.sequence_index;
    });
  }
  if (last == route.ready.rend()) return route.ready.push_back(std::move(response));
  unread_bytes_ -= static_cast<int64_t>(sizeof(Response));
  Append(last->tokens, response.tokens);
  Append(last->log_probs, response.log_probs);
  Append(last->context_logits, response.context_logits);
  Append(last->generation_logits, response.generation_logits);
  last->cum_log_prob = response.cum_log_prob;
  last->times = response.times;
}

bool ResponseRouter::IsFull() const {
  MutexLock lock(mutex_);
  return num_unread_ >= kMaxUnreadRequests || unread_bytes_ >= kMaxUnreadBytes;
}

void ResponseRouter::Close() {
  {
    MutexLock lock(mutex_);
    closed_ = true;
    ready_changed_.NotifyAll();
    callbacks_changed_.NotifyAll();
  }
  if (callback_thread_.joinable()) callback_thread_.join();
}

void ResponseRouter::RunCallbacks() {
  for (;;) {
    Response response;
    const Executor::ResponseCallback* on_response = nullptr;
    {
      MutexLock lock(mutex_);
      while (for_callbacks_.empty() && !closed_) callbacks_changed_.Wait(mutex_);
      if (for_callbacks_.empty()) return;
      response = std::move(for_callbacks_.front());
      for_callbacks_.pop_front();
      // Only this thread erases routes with a callback, so the pointer stays good.
      on_response = &routes_.at(response.request_id).on_response;
    }
    const RequestId id = response.request_id;
    const bool is_final = response.is_final;
    (*on_response)(std::move(response));
    if (!is_final) continue;
    // What the callback holds may be large or lock something: destroyed outside the lock.
    std::map<RequestId, Route>::node_type done;
    MutexLock lock(mutex_);
    done = routes_.extract(id);
  }
}

std::vector<Response> ResponseRouter::Await(std::optional<RequestId> id,
                                            std::chrono::milliseconds timeout) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point begin = Clock::now();
  MutexLock lock(mutex_);
  while (!IsDone(id)) {
    const auto waited = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - begin);
    if (waited >= timeout) break;
    ready_changed_.WaitFor(mutex_, std::min(timeout - waited, kLongestWait));
  }
  return TakeReady(id);
}

int ResponseRouter::NumReady(std::optional<RequestId> id) const {
  MutexLock lock(mutex_);
  size_t num_ready = 0;
  for (RequestId ready_id : ready_ids_) {
    if (!id || *id == ready_id) num_ready += routes_.at(ready_id).ready.size();
  }
  return static_cast<int>(num_ready);
}

// Whether there is something to take, or nothing will ever come.
bool ResponseRouter::IsDone(std::optional<RequestId> id) const {
  if (closed_) return true;
  if (!id) return !ready_ids_.empty();
  auto route = routes_.find(*id);
  return route == routes_.end() || route->second.on_response || !route->second.ready.empty();
}

std::vector<Response> ResponseRouter::TakeReady(std::optional<RequestId> id) {
  std::vector<Response> taken;
  if (id) {
    if (ready_ids_.contains(*id)) TakeReadyOf(*id, taken);
    return taken;
  }
  while (!ready_ids_.empty()) TakeReadyOf(*ready_ids_.begin(), taken);
  return taken;
}

void ResponseRouter::TakeReadyOf(RequestId id, std::vector<Response>& taken) {
  auto route = routes_.find(id);
  bool is_final = false;
  for (Response& response : route->second.ready) {
    is_final = response.is_final;
    unread_bytes_ -= BytesOf(response);
    taken.push_back(std::move(response));
  }
  route->second.ready.clear();
  ready_ids_.erase(id);
  if (!is_final) return;
  --num_unread_;
  routes_.erase(route);
}

}  // namespace trireme::executor
