// SPDX-License-Identifier: Apache-2.0
// What stands between a model and its instances: who waits, and which calls run together.
// Thread-safe.
#pragma once

#include <functional>
#include <memory>
#include <span>

#include "server/batching/request_queue.h"

namespace trireme::server {

class Scheduler {
 public:
  // Runs one batch on the given instance, on its thread.
  using RunFn = std::function<void(std::span<const std::shared_ptr<InferCall>> batch, int instance,
                                   BatchClose reason)>;

  virtual ~Scheduler() = default;
  // A call that cannot wait here is answered at once.
  virtual void Enqueue(const std::shared_ptr<InferCall>& call) = 0;
  // Fails what still waits and joins the threads.
  virtual void Stop() = 0;
  // Sees every response first, and every call when its last response is out.
  virtual void OnResponse(const InferCall& call, InferResponse& response) {}
  virtual void OnDone(const InferCall& call) {}
};

}  // namespace trireme::server
