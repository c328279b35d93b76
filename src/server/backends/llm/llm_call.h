// SPDX-License-Identifier: Apache-2.0
// One call of a text model: its rows become generations, their outputs responses. Thread-safe; the
// outputs come on the executor's one output thread.
#pragma once

#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <vector>

#include "base/mutex.h"
#include "server/backends/llm/llm_engine.h"
#include "server/backends/llm/llm_face.h"
#include "server/backends/llm/llm_metrics.h"

namespace trireme::server {

// Shared: each running generation holds it.
class LlmCall : public std::enable_shared_from_this<LlmCall> {
 public:
  // `face` is null for a call that brings its GenerateRequest. Face and metrics outlive the call.
  LlmCall(std::shared_ptr<InferCall> call, LlmBatch batch, const LlmFace* face,
          const std::shared_ptr<LlmEngine>& engine, LlmMetrics& metrics);

  // `as_text`: through the generator.
  void Start(bool as_text);
  // Ends with what there is: its client asked for that.
  void Stop();

 private:
  using Clock = std::chrono::steady_clock;
  // Output thread.
  struct Row {
    // By sequence.
    struct Generated {
      int num_tokens = 0;
      Clock::time_point last;  // of them
    };
    std::map<int, Generated> generated;
    std::map<int, std::shared_ptr<PieceStream>> streams;  // by sequence
  };

  void OnOutput(size_t row, GenerateOutput&& output);
  void Measure(Row& row, const GenerateOutput& output);
  void RespondPiece(size_t row, GenerateOutput&& output, bool is_final);
  bool HasFailed() EXCLUDES(mutex_);
  void Respond(InferResponse response, bool is_final);
  // Says that `count` rows have ended; true when they were the last.
  bool EndRows(int count) { return num_open_.fetch_sub(count) == count; }
  void Abort(Status error) EXCLUDES(mutex_);
  void FinishFailed();
  void CancelAll() EXCLUDES(mutex_);

  const std::shared_ptr<InferCall> call_;
  const LlmBatch batch_;
  const LlmFace* const face_;
  // Weak: who cancels may come when call and model are gone, and an executor must not end on a thread
  // of its own.
  const std::weak_ptr<LlmEngine> engine_;
  LlmMetrics& metrics_;
  const Clock::time_point begin_ = Clock::now();
  std::atomic<int> num_open_;
  std::atomic<bool> stopped_{false};
  std::vector<Row> rows_;
  std::vector<LlmPiece> gathered_;  // output thread

  Mutex mutex_;
  std::vector<RequestId> ids_ GUARDED_BY(mutex_);
  bool cancelled_ GUARDED_BY(mutex_) = false;
  Status error_ GUARDED_BY(mutex_);  // the first
};

}  // namespace trireme::server
