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

 private:
  // Until the final response has been handed out.
  struct Route {
    Executor::ResponseCallback on_response;
    std::deque<Response> ready;
  };

  void RunCallbacks();
  bool IsDone(std::optional<RequestId> id) const REQUIRES(mutex_);
  std::vector<Response> TakeReady(std::optional<RequestId> id) REQUIRES(mutex_);
  void TakeReadyOf(RequestId id, std::vector<Response>& taken) REQUIRES(mutex_);

  mutable Mutex mutex_;
  CondVar ready_changed_;
  CondVar callbacks_changed_;
  std::map<RequestId, Route> routes_ GUARDED_BY(mutex_);
  std::set<RequestId> ready_ids_ GUARDED_BY(mutex_);
  std::deque<Response> for_callbacks_ GUARDED_BY(mutex_);
  bool closed_ GUARDED_BY(mutex_) = false;
  std::thread callback_thread_;
};

}  // namespace trireme::executor
