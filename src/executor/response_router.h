// SPDX-License-Identifier: Apache-2.0
// ResponseRouter: carries responses from the engine thread to whoever asked: to a callback, on the
// one output thread, or to AwaitResponses. Thread-safe.
#pragma once

#include <chrono>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "trireme/executor.h"

namespace trireme::executor {

class ResponseRouter {
 public:
  ResponseRouter();
  ~ResponseRouter();

  // Must precede the first response of `id`. An empty callback: responses wait for Await.
  void Open(RequestId id, Executor::ResponseCallback on_response);
  void Deliver(std::vector<Response> responses);
  // No response comes after this: hands the callbacks what is left and wakes whoever waits.
  void Close();

  std::vector<Response> Await(std::optional<RequestId> id, std::chrono::milliseconds timeout);
  int NumReady(std::optional<RequestId> id) const;
  // Whether requests that nobody awaits have left so much that no more should be taken.
  bool IsFull() const;

  // Limits of what lies unread: ended requests, and bytes of responses.
  static constexpr int kMaxUnreadRequests = 1 << 16;
  static constexpr int64_t kMaxUnreadBytes = int64_t{4} << 30;
  // Streamed pieces of one request that are kept apart; later ones join the last.
  static constexpr size_t kMaxPieces = 256;

 private:
  // Until the final response has been handed out.
  struct Route {
    Executor::ResponseCallback on_response;
    std::deque<Response> ready;
  };

  void RunCallbacks();
  void Keep(Response response, Route& route) REQUIRES(mutex_);
  bool IsDone(std::optional<RequestId> id) const REQUIRES(mutex_);
  std::vector<Response> TakeReady(std::optional<RequestId> id) REQUIRES(mutex_);
  void TakeReadyOf(RequestId id, std::vector<Response>& taken) REQUIRES(mutex_);

  mutable Mutex mutex_;
  CondVar ready_changed_;
  CondVar callbacks_changed_;
  std::map<RequestId, Route> routes_ GUARDED_BY(mutex_);
  std::set<RequestId> ready_ids_ GUARDED_BY(mutex_);
  int num_unread_ GUARDED_BY(mutex_) = 0;  // routes with a final response in `ready`
  int64_t unread_bytes_ GUARDED_BY(mutex_) = 0;
  std::deque<Response> for_callbacks_ GUARDED_BY(mutex_);
  bool closed_ GUARDED_BY(mutex_) = false;
  std::thread callback_thread_;
};

}  // namespace trireme::executor
