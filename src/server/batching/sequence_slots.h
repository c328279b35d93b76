// SPDX-License-Identifier: Apache-2.0
// The sequences of a model: which has a slot of which instance, what waits, what may run next. No
// threads, no clock: the owner locks and says what time it is.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <vector>

#include "server/core/inference.h"
#include "server/repository/model_config.h"

namespace trireme::server {

class SequenceSlots {
 public:
  using Call = std::shared_ptr<InferCall>;

  // `config` has sequence_batching and outlives this.
  SequenceSlots(const ModelConfig& config, int num_instances);

  // INVALID_ARGUMENT for a first request without START. The call waits, with its sequence in a slot
  // or in the backlog.
  Status Push(const Call& call, int64_t now_ns);

  struct Next {
    // By slot; null where a slot below the last has nothing to run (direct only). Empty: nothing is
    // due.
    std::vector<Call> batch;
    int64_t wait_until_ns = 0;  // batch empty: look again then; 0: when something changes
  };
  // Takes what the instance is to run next. Its calls have their states as inputs.
  Next Take(int instance, int64_t now_ns);
  // Keeps the states among the response's outputs for the sequence's next request.
  void TakeStates(const InferCall& call, InferResponse& response);
  // The call has had its final response: its sequence may go on.
  void Done(const InferCall& call, int64_t now_ns);

  // Ends sequences that idle too long.
  struct Expired {
    std::vector<Call> calls;  // of the backlog, whose time is up
    bool freed = false;       // others may run now
  };
  Expired Expire(int64_t now_ns);
  // When Expire has something to do next; 0: not before something changes.
  int64_t next_expiry_ns() const;

  // A waiting call that was cancelled.
  bool Remove(const InferCall& call, int64_t now_ns);
  std::vector<Call> TakeAll();

  int num_active() const;  // sequences with a slot

 private:
  struct Item {
    Call call;
    int64_t arrival_ns = 0;
    int64_t deadline_ns = 0;  // 0: none; counts in the backlog only
  };
  struct Sequence {
    CorrelationId id;
    std::deque<Item> waiting;
    bool in_flight = false;
    bool ended = false;  // its END has come
    int instance = -1;   // -1: in the backlog
    int slot = -1;
    int64_t last_ns = 0;
    std::map<std::string, Tensor> states;  // by input name
  };
  // Shared: known by identity, by slot and by its call in flight.
  using SequencePtr = std::shared_ptr<Sequence>;

  bool Place(const SequencePtr& sequence);
  void FreeSlot(Sequence& sequence);
  void EndIfOver(const SequencePtr& sequence);
  // Nothing more of it is taken.
  void Forget(const SequencePtr& sequence);
  std::vector<SequencePtr> Ready(int instance) const;
  Next TakeDirect(const std::vector<SequencePtr>& ready, int64_t now_ns);
  Next TakeOldest(std::vector<SequencePtr> ready, int64_t now_ns);
  Call TakeHead(const SequencePtr& sequence);
  void AddStates(Sequence& sequence, InferCall& call) const;

  const ModelConfig& config_;
  const SequenceBatching& batching_;
  std::vector<std::vector<SequencePtr>> slots_;  // [instance][slot]; null: free
  std::deque<SequencePtr> backlog_;
  std::map<CorrelationId, SequencePtr> by_id_;  // those that may get more requests
  std::map<const InferCall*, SequencePtr> in_flight_;
};

}  // namespace trireme::server
