// SPDX-License-Identifier: Apache-2.0
// Runs the sequences of a model on one thread per instance: a sequence stays with its instance, and
// one of its requests runs at a time. Thread-safe.
#pragma once

#include <memory>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "server/batching/scheduler.h"
#include "server/batching/sequence_slots.h"

namespace trireme::server {

// Checks what a request to such a model must be and adds its control inputs.
Status AddSequenceControls(const ModelConfig& config, InferRequest& request);
// A request that only fills its place in a batch: the inputs of `like` in zeros, not READY.
InferRequest NullRequest(const ModelConfig& config, const InferRequest& like);

// Shared: a call that waits here names it for the case that it is cancelled, weakly.
class SequenceScheduler : public Scheduler, public std::enable_shared_from_this<SequenceScheduler> {
 public:
  // `config` has sequence_batching and outlives this.
  static std::shared_ptr<SequenceScheduler> Start(const ModelConfig& config, RunFn run);
  ~SequenceScheduler() override;

  void Enqueue(const std::shared_ptr<InferCall>& call) override EXCLUDES(mutex_);
  void Stop() override EXCLUDES(mutex_);
  void OnResponse(const InferCall& call, InferResponse& response) override EXCLUDES(mutex_);
  void OnDone(const InferCall& call) override EXCLUDES(mutex_);

 private:
  SequenceScheduler(const ModelConfig& config, RunFn run);
  void RunInstance(int instance) EXCLUDES(mutex_);
  // Ends idle sequences, and calls whose time is up in the backlog.
  void WatchTime() EXCLUDES(mutex_);
  void Remove(InferCall& call) EXCLUDES(mutex_);
  void FillPlaces(std::vector<std::shared_ptr<InferCall>>& batch) const;

  const ModelConfig& config_;
  const RunFn run_;
  Mutex mutex_;
  CondVar changed_;
  SequenceSlots slots_ GUARDED_BY(mutex_);
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace trireme::server
