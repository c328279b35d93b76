// SPDX-License-Identifier: Apache-2.0
// EngineLoop: takes requests through the session, one turn at a time: schedule, run a step, hand
// out what was sampled. No threads, no waiting: the caller turns the crank. Engine thread only.
//
//   waiting --admit--> running (slot, blocks) --end--> answered
//      ^                  |
//      +------ pause -----+     (MAX_UTILIZATION; computed again later)
//
// A turn launches a step if another may be in flight, else it collects the oldest. With one step in
// flight the two alternate; with more, step n+1 is launched from the tokens that step n leaves on
// the device, and a token sampled beyond an end is dropped when it is read.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "engine/session.h"
#include "executor/sequence.h"
#include "kv_cache/kv_cache.h"
#include "trireme/executor.h"

namespace trireme::executor {

// Block 0 is the session's: padding rows write to it.
inline constexpr int kNumReservedBlocks = 1;

struct LoopOptions {
  CapacityPolicy capacity_policy = CapacityPolicy::kGuaranteedNoEvict;
  ChunkingPolicy chunking_policy = ChunkingPolicy::kFirstComeFirstServed;
  bool chunked_context = true;
  bool enable_block_reuse = false;
  int max_steps_in_flight = 1;
};

class EngineLoop {
 public:
  // `session` must outlive the loop.
  EngineLoop(engine::Session& session, const LoopOptions& options);

  // Takes a validated request.
  void Add(std::unique_ptr<ActiveRequest> request);
  // Unknown and answered ids are ignored.
  void Cancel(RequestId id);
  void CancelAll();
  void ExpireDeadlines(Clock::time_point now);
  // Answers every request with `error`, and every later one too.
  void Fail(const Status& error);

  // Whether a turn has anything to do.
  bool HasWork() const { return !requests_.empty(); }
  // One turn. An error is fatal: the caller passes it to Fail.
  Status Advance();

  // What came up since the last call, in order.
  std::vector<Response> TakeResponses() { return std::exchange(responses_, {}); }
  std::vector<IterationStats> TakeIterations() { return std::exchange(iterations_, {}); }

  // Accepted requests none of whose sequences has had a slot.
  int num_unstarted_requests() const { return num_unstarted_; }
  const ExecutorTotals& totals() const { return totals_; }
  KvCacheStats cache_stats() const { return cache_.Stats(); }
  // Dies when queues, slots and blocks disagree; for tests.
  void CheckInvariants() const;

 private:
  // One row of a step: `num_tokens` of a sequence from position `first` on.
  struct Row {
    Sequence* sequence = nullptr;
    int first = 0;
    int num_tokens = 0;
    bool generating = false;
    bool samples = false;
  };
  struct StepInFlight {
    std::vector<Row> rows;
    // Logits [vocab_size] of sampled rows whose request wants them; by row.
    std::map<size_t, std::vector<float>> generation_logits;
    IterationStats stats;
    Clock::time_point begin;
  };

  // Launching (engine_loop_launch.cc).
  StatusOr<bool> Launch();
  bool ApplyCapacityPlan(IterationStats& stats);
  void Pause(Sequence& sequence);
  void Admit(Sequence& sequence);
  void ResetSlot(const Sequence& sequence);
  std::vector<Row> PlanRows();
  int BlocksToHold(const Sequence& sequence, int length) const;
  bool PrepareRow(Sequence& sequence, int num_tokens, std::vector<Row>& rows);
  void AddToInput(const Row& row, engine::StepInput& input) const;
  Status RunStep(StepInFlight& step);
  Status CopyLogits(size_t index, StepInFlight& step);
  void CountRow(const Row& row, IterationStats& stats);

  // Collecting (engine_loop.cc).
  Status Collect();
  // `now`: when the step was read back.
  void TakeToken(const Row& row, const engine::SampledToken& sampled, std::span<const float> logits,
                 Clock::time_point now);
  void FinishIteration(StepInFlight& step);
  void EndRequest(ActiveRequest& request, FinishReason reason, const Status& error);
  void EndUnfinished(ActiveRequest& request, FinishReason reason, const Status& error);
  void EndSequence(Sequence& sequence, FinishReason reason, const Status& error);
  void LeaveRunning(Sequence& sequence);
  void ReleaseSlot(Sequence& sequence);
  void Respond(Sequence& sequence, FinishReason reason, const Status& error);
  void TakeResults(Sequence& sequence, Response& response);
  void EraseIfAnswered(ActiveRequest& request);
  void LogSummary(const ActiveRequest& request, FinishReason reason, const Status& error) const;

  engine::Session& session_;
  const LoopOptions options_;
  const int vocab_size_;
  kv_cache::KvCache cache_;
  const kv_cache::PrefixKey prefix_key_;
  Status failure_;

  std::unordered_map<RequestId, std::unique_ptr<ActiveRequest>> requests_;
  std::map<ServiceKey, Sequence*> waiting_;
  std::map<ServiceKey, Sequence*> running_;
  std::multimap<Clock::time_point, RequestId> deadlines_;
  std::vector<int> free_slots_;
  std::deque<StepInFlight> in_flight_;

  std::vector<Response> responses_;
  std::vector<IterationStats> iterations_;
  ExecutorTotals totals_;
  int num_unstarted_ = 0;
  int num_completed_since_ = 0;  // since the last iteration was recorded
  int64_t num_iterations_ = 0;
};

}  // namespace trireme::executor
