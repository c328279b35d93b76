// SPDX-License-Identifier: Apache-2.0
// One version of one model, loaded: validates, schedules and counts its calls. Thread-safe.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "server/backends/backend.h"
#include "server/batching/ordered_release.h"
#include "server/batching/scheduler.h"
#include "server/core/response_cache.h"
#include "server/core/statistics.h"

namespace trireme::server {

class Model : public CallObserver {
 public:
  // `cache` may be null; else it outlives the model.
  Model(ModelConfig config, int64_t version, std::unique_ptr<BackendModel> backend,
        MetricsRegistry& registry, ResponseCache* cache);
  ~Model() override;

  const ModelConfig& config() const { return config_; }
  int64_t version() const { return version_; }
  BackendModel& backend() { return *backend_; }
  bool ready() const { return backend_->ready(); }
  StatisticsSnapshot Statistics() const { return statistics_.Snapshot(); }

  // Holds a request against the configuration and brings it into the backend's form (batch size,
  // reshape). Errors name the request, the tensor and what was expected.
  Status Validate(InferRequest& request) const;

  // Runs a validated call on one instance, past the scheduler and the statistics.
  void RunAlone(const std::shared_ptr<InferCall>& call, int instance);
  // Runs a validated call to its final response.
  void Infer(const std::shared_ptr<InferCall>& call);

  int64_t num_in_flight() const { return in_flight_.load(); }
  // Fails what still waits for an instance; running calls go on.
  void StopScheduling();

  void OnResponse(InferCall& call, InferResponse& response) override;
  void OnDone(InferCall& call) override;

 private:
  void Run(std::span<const std::shared_ptr<InferCall>> batch, int instance);
  Status CheckInput(Tensor& input, InferRequest& request) const;
  void StartScheduler();
  void AddBatchMetrics(MetricsRegistry& registry);
  // Answers from the cache, or sees to it that the answer gets there.
  bool AnswerFromCache(const std::shared_ptr<InferCall>& call);

  const ModelConfig config_;
  const int64_t version_;
  int num_required_inputs_ = 0;
  ModelStatistics statistics_;
  Counter* batch_closed_[6] = {};
  std::atomic<int64_t> in_flight_{0};
  // Waiting for an instance. Shared: with the gauge, which may be read after the model is gone.
  const std::shared_ptr<std::atomic<int64_t>> pending_ = std::make_shared<std::atomic<int64_t>>(0);
  const std::unique_ptr<BackendModel> backend_;
  std::shared_ptr<OrderedRelease> ordered_;  // null without preserve_ordering
  ResponseCache* const cache_;               // null: this model's responses are not kept
  // Shared: the calls that wait in it name it, weakly.
  std::shared_ptr<Scheduler> scheduler_;  // null: calls run on the caller's thread
};

// The labels of a model's metrics.
Labels ModelLabels(const ModelConfig& config, int64_t version);

}  // namespace trireme::server
