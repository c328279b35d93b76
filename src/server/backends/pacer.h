// SPDX-License-Identifier: Apache-2.0
// Sends prepared responses of many calls at their times, from one thread. Thread-safe.
#pragma once

#include <map>
#include <memory>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "server/core/inference.h"

namespace trireme::server {

class Pacer {
 public:
  struct Timed {
    int64_t delay_ns = 0;  // after the one before
    InferResponse response;
  };

  Pacer();
  // Cancels what is left.
  ~Pacer();

  // Sends `responses` and then the empty final one; a cancelled call ends CANCELLED instead.
  void Send(const std::shared_ptr<InferCall>& call, std::vector<Timed> responses) EXCLUDES(mutex_);

 private:
  struct Job {
    std::shared_ptr<InferCall> call;
    std::vector<Timed> responses;
    size_t next = 0;
  };

  void Run() EXCLUDES(mutex_);
  // Sends one response; false when the call is over.
  static bool Step(Job& job);
  static int64_t DueNs(const Job& job);

  Mutex mutex_;
  CondVar changed_;
  std::multimap<int64_t, Job> jobs_ GUARDED_BY(mutex_);  // by the time of the next response
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace trireme::server
