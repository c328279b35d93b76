// SPDX-License-Identifier: Apache-2.0
// One request on its way through the steps of an ensemble. Thread-safe.
//
// A step runs when every tensor it needs is there. The first response of a step belongs to the
// iteration the step ran in; each further response of a decoupled step begins an iteration of its
// own, in which only the steps downstream of it run again:
//
//   iteration 0:  inputs -> A -> B(response 0) -> C -> outputs
//   iteration 1:                 B(response 1) -> C -> outputs       parent 0, begun by B
//
// Iterations give their outputs in the order they began. Tensors are handed on, never copied.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "base/mutex.h"
#include "server/backends/ensemble_graph.h"

namespace trireme::server {

// Shared: each running step holds it.
class EnsembleRun : public std::enable_shared_from_this<EnsembleRun> {
 public:
  EnsembleRun(const ModelConfig& config, const EnsembleGraph& graph, ModelCaller& caller,
              std::shared_ptr<InferCall> call);

  void Start();
  void Cancel();

 private:
  struct Iteration {
    int parent = -1;
    size_t begun_by = 0;  // with a parent
    // Unset: the step that should make it did not.
    std::map<std::string, std::optional<Tensor>> tensors;
    std::set<size_t> fired;
    int running = 0;
    bool emitted = false;
  };
  // One execution of a step.
  struct StepRun {
    int iteration = 0;
    size_t step = 0;
    int num_responses = 0;
    // Of a step that batches in an ensemble that does not: the dimensions of each output, with the
    // batch's.
    std::map<std::string, size_t> batched_ranks;

    bool AddedBatch(const Tensor& output) const {
      const auto rank = batched_ranks.find(output.name);
      return rank != batched_ranks.end() && output.shape.size() == rank->second &&
             output.shape.front() == 1;
    }
  };
  struct Firing {
    std::shared_ptr<StepRun> run;  // shared: with the callback of its call
    InferRequest request;
  };

  // Starts what can be started, sends what can be sent, until nothing is left to do now. One thread
  // at a time, so that the iterations reach a step in their order.
  void Advance() EXCLUDES(mutex_);
  std::vector<Firing> TakeFirings() REQUIRES(mutex_);
  // Fires a step in an iteration, if everything for it is there.
  std::optional<Firing> TryFire(int number, Iteration& iteration, size_t step) REQUIRES(mutex_);
  InferRequest StepRequest(const EnsembleStep& step) const;
  bool RunsIn(const Iteration& iteration, size_t step) const REQUIRES(mutex_);
  // Null: not there yet. Points to an unset optional: it will not come.
  const std::optional<Tensor>* Lookup(const Iteration& iteration, const std::string& tensor) const
      REQUIRES(mutex_);
  void CollectOutputs() REQUIRES(mutex_);
  void StartStep(Firing firing);
  void OnStepResponse(StepRun& run, InferResponse&& response) EXCLUDES(mutex_);
  // The iteration that a response of `run` belongs to.
  Iteration& IterationFor(StepRun& run) REQUIRES(mutex_);
  void Fail(const Status& status) REQUIRES(mutex_);
  void Deliver() EXCLUDES(mutex_);

  const ModelConfig& config_;
  const EnsembleGraph& graph_;
  ModelCaller& caller_;
  const std::shared_ptr<InferCall> call_;
  std::vector<std::string> wanted_;
  std::set<size_t> needed_;

  Mutex mutex_;
  std::map<int, Iteration> iterations_ GUARDED_BY(mutex_);
  int next_iteration_ GUARDED_BY(mutex_) = 1;
  std::vector<int> running_of_step_ GUARDED_BY(mutex_);
  int running_ GUARDED_BY(mutex_) = 0;
  Status error_ GUARDED_BY(mutex_);
  Parameters sequence_parameters_ GUARDED_BY(mutex_);
  std::map<uint64_t, std::weak_ptr<InferCall>> calls_ GUARDED_BY(mutex_);
  uint64_t next_call_ GUARDED_BY(mutex_) = 0;
  std::deque<InferResponse> ready_ GUARDED_BY(mutex_);
  int emitted_ GUARDED_BY(mutex_) = 0;
  bool ended_ GUARDED_BY(mutex_) = false;      // the final response is in ready_
  bool advancing_ GUARDED_BY(mutex_) = false;  // a thread is in Advance
  bool changed_ GUARDED_BY(mutex_) = false;    // since that thread last looked
};

}  // namespace trireme::server
