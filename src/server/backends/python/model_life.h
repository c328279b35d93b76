// SPDX-License-Identifier: Apache-2.0
// One life of a model process: from its start to its end, with the requests it has. Thread-safe;
// Run belongs to one thread.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "server/backends/python/child_process.h"
#include "server/backends/python/nested_calls.h"

namespace trireme::server {

// What a process runs. Immutable.
struct ModelProgram {
  std::vector<std::string> command;
  std::string instance;              // "m_0_0", as logs and the model see it
  Json start;                        // the members of the first message
  std::vector<std::string> outputs;  // those of a request that names none
  std::vector<std::string> states;   // outputs that the server keeps for a sequence's next request
  int64_t start_timeout_ms = 0;
  int64_t end_timeout_ms = 0;
  ModelCaller& caller;
};

// Shared: calls that may be cancelled name it, weakly.
class ModelLife : public std::enable_shared_from_this<ModelLife> {
 public:
  // The program outlives the life.
  static StatusOr<std::shared_ptr<ModelLife>> Begin(const ModelProgram& program);

  // Until the process has ended; says why it did. `on_first` gets its first answer: that the model is
  // initialised, or its completed configuration.
  Status Run(const std::function<void(const ProcessMessage&)>& on_first);

  // Returns when the batch is over; the calls may be answered later. On an error nothing was started
  // and no call was answered.
  Status Execute(Execution& execution) EXCLUDES(mutex_);
  // What the model's own is_ready says; false when it does not within `timeout_ms`.
  bool AskIsReady(int64_t timeout_ms) EXCLUDES(mutex_);
  // Lets the model finalize and the process end, in the program's time.
  void End();
  void Kill();

 private:
  struct Pending {
    std::shared_ptr<InferCall> call;
    uint64_t batch = 0;
  };

  ModelLife(const ModelProgram& program, ChildProcess child);

  // One wait; false when there is nothing more to come.
  bool Step(const std::function<void(const ProcessMessage&)>& on_first);
  int TimeLeftMs() const;
  bool ReceiveMessages(const std::function<void(const ProcessMessage&)>& on_first);
  void Handle(ModelChannel::Received received);
  void OnResponse(ModelChannel::Received received) EXCLUDES(mutex_);
  // False when nothing more will come.
  bool LogOutput(int fd, std::string_view stream, LineReader& reader);
  void LogLine(std::string_view stream, const std::string& line);
  void SendCancel(uint64_t number);
  // Fails what is left of the requests.
  void Bury(const Status& why) EXCLUDES(mutex_);

  const ModelProgram& program_;
  ChildProcess child_;
  // Shared: see its class.
  const std::shared_ptr<ModelChannel> channel_;
  const std::shared_ptr<NestedCalls> nested_;
  std::atomic<int64_t> deadline_ns_{0};  // 0: none
  std::atomic<bool> killed_{false};

  // Of the thread of Run.
  bool first_seen_ = false;
  bool finalized_ = false;
  Status end_;  // why it must end, if the server wants it so
  std::string last_words_;
  LineReader stdout_;
  LineReader stderr_;
  bool stdout_open_ = true;
  bool stderr_open_ = true;

  Mutex mutex_;
  CondVar changed_;
  bool over_ GUARDED_BY(mutex_) = false;
  uint64_t next_number_ GUARDED_BY(mutex_) = 1;
  std::map<uint64_t, Pending> pending_ GUARDED_BY(mutex_);
  std::set<uint64_t> batches_ GUARDED_BY(mutex_);
  std::map<uint64_t, bool> readiness_ GUARDED_BY(mutex_);  // answers by question
};

}  // namespace trireme::server
