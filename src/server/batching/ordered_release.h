// SPDX-License-Identifier: Apache-2.0
// Delivers the responses of calls in the order the calls arrived (preserve_ordering). Thread-safe.
#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "base/mutex.h"
#include "server/core/inference.h"

namespace trireme::server {

// Shared: the delivery of each waiting call holds it.
class OrderedRelease : public std::enable_shared_from_this<OrderedRelease> {
 public:
  // From now on the responses of `call` wait until those of the calls added before are out.
  void Add(InferCall& call);

 private:
  struct Held {
    InferCall* call;
    InferResponse response;
  };
  struct Slot {
    InferCall::ResponseFn deliver;
    std::vector<Held> held;
    bool complete = false;
  };
  void OnResponse(Slot& slot, InferCall& call, InferResponse&& response);

  Mutex mutex_;
  std::deque<std::shared_ptr<Slot>> slots_ GUARDED_BY(mutex_);
  bool delivering_ GUARDED_BY(mutex_) = false;  // one thread at a time, without the lock
};

}  // namespace trireme::server
