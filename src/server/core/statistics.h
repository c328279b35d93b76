// SPDX-License-Identifier: Apache-2.0
// What a model version has done, as the statistics extension and the metrics report it. Thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "base/mutex.h"
#include "server/core/inference.h"
#include "server/metrics/registry.h"

namespace trireme::server {

struct StatDuration {
  uint64_t count = 0;
  uint64_t ns = 0;
  void Add(int64_t duration_ns) {
    ++count;
    ns += static_cast<uint64_t>(duration_ns > 0 ? duration_ns : 0);
  }
};

struct InferStats {
  StatDuration success, fail, queue, compute_input, compute_infer, compute_output, cache_hit,
      cache_miss;
};

// Of the n-th response of decoupled calls.
struct ResponseStats {
  StatDuration compute_infer, compute_output, success, fail, empty_response, cancel;
};

struct BatchStats {
  StatDuration compute_input, compute_infer, compute_output;
};

struct StatisticsSnapshot {
  uint64_t last_inference_ms = 0;  // since the Unix epoch; 0: never
  uint64_t inference_count = 0;
  uint64_t execution_count = 0;
  InferStats infer;
  std::map<int, ResponseStats> responses;  // by index
  std::map<uint64_t, BatchStats> batches;  // by size
};

class ModelStatistics {
 public:
  // The counters nv_inference_* of the model; `labels` name it.
  ModelStatistics(MetricsRegistry& registry, const Labels& labels);

  void OnResponse(const InferCall& call, const InferResponse& response, bool decoupled);
  // The final response of `call`: adds the whole request.
  void OnDone(const InferCall& call, const Status& error, bool rejected);
  // A call answered from the response cache, or looked up there in vain.
  void OnCacheHit(const InferCall& call, int64_t lookup_ns);
  void OnCacheMiss(int64_t lookup_and_insert_ns);
  // One execution of a batch of that size with marks of NowNs.
  void OnExecution(int64_t batch_size, const InferCall::Times& times, int64_t end_ns);

  StatisticsSnapshot Snapshot() const;

 private:
  struct Counters {
    Counter &success, &rejected, &cancelled, &backend, &other, &count, &exec_count, &request_us,
        &queue_us, &input_us, &infer_us, &output_us, &cache_hits, &cache_misses, &cache_hit_us,
        &cache_miss_us;
  };

  mutable Mutex mutex_;
  StatisticsSnapshot data_ GUARDED_BY(mutex_);
  Counters counters_;
};

}  // namespace trireme::server
