// SPDX-License-Identifier: Apache-2.0
// The requests that a model process makes of other models (BLS). Thread-safe.
#pragma once

#include <map>
#include <memory>

#include "base/mutex.h"
#include "server/backends/backend.h"
#include "server/backends/python/model_channel.h"

namespace trireme::server {

// Shared: a call's responses may come after the process has gone.
class NestedCalls : public std::enable_shared_from_this<NestedCalls> {
 public:
  NestedCalls(ModelCaller& caller, std::shared_ptr<ModelChannel> channel)
      : caller_(caller), channel_(std::move(channel)) {}

  // Responses go to the process as they come; without `decoupled` exactly one does.
  void Start(uint64_t number, InferRequest request, bool decoupled) EXCLUDES(mutex_);
  void Cancel(uint64_t number) EXCLUDES(mutex_);
  void CancelAll() EXCLUDES(mutex_);
  void AnswerIsModelReady(uint64_t number, const std::string& name, const std::string& version);

 private:
  // Of a call that must have one response: the first, until it is known to be the only one.
  struct Single {
    int count = 0;
    InferResponse first;
  };
  void OnResponse(uint64_t number, Single* single, InferResponse&& response);
  void Send(uint64_t number, const InferResponse& response);

  ModelCaller& caller_;
  // Shared: with the life of the process and the tensors in its memory.
  const std::shared_ptr<ModelChannel> channel_;
  Mutex mutex_;
  std::map<uint64_t, std::shared_ptr<InferCall>> running_ GUARDED_BY(mutex_);
};

}  // namespace trireme::server
