// SPDX-License-Identifier: Apache-2.0
// One instance of a Python model: a process that is started again when it dies. Thread-safe.
#pragma once

#include <memory>
#include <thread>

#include "base/mutex.h"
#include "server/backends/python/model_life.h"

namespace trireme::server {

class ModelProcess {
 public:
  // Starts at once, on a thread of its own.
  explicit ModelProcess(ModelProgram program);
  // Lets the model finalize.
  ~ModelProcess();

  // Waits for the first start; why it failed, if it did.
  Status WaitUntilStarted() EXCLUDES(mutex_);
  // Answers every call in the end; returns when the instance is free.
  void Execute(Execution& execution) EXCLUDES(mutex_);
  bool ready() EXCLUDES(mutex_);
  // Begins the end: lets the model finalize, or kills it.
  void End() EXCLUDES(mutex_);
  void Kill() EXCLUDES(mutex_);

 private:
  enum class State { kStarting, kReady, kDown };

  void Supervise() EXCLUDES(mutex_);
  // The life that can take a batch, as soon as there is one.
  StatusOr<std::shared_ptr<ModelLife>> WaitForLife() EXCLUDES(mutex_);
  // Takes the state to what follows a life; false when no other life does.
  bool AfterLife(const Status& why, int64_t lived_ns) EXCLUDES(mutex_);

  const ModelProgram program_;
  Mutex mutex_;
  CondVar changed_;
  State state_ GUARDED_BY(mutex_) = State::kStarting;
  bool ever_ready_ GUARDED_BY(mutex_) = false;
  bool has_is_ready_ GUARDED_BY(mutex_) = false;
  bool stopping_ GUARDED_BY(mutex_) = false;
  Status why_down_ GUARDED_BY(mutex_);
  int64_t pause_ms_ GUARDED_BY(mutex_) = 0;  // before the next life
  // Shared: see its class.
  std::shared_ptr<ModelLife> life_ GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace trireme::server
