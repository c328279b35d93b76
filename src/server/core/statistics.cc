// SPDX-License-Identifier: Apache-2.0
#include "server/core/statistics.h"

#include <algorithm>
#include <chrono>

namespace trireme::server {
namespace {

Counter& FailureCounter(MetricsRegistry& registry, Labels labels, const std::string& reason) {
  labels["reason"] = reason;
  return registry.AddCounter("nv_inference_request_failure",
                             "Number of failed inference requests, all batch sizes", labels);
}

double Microseconds(int64_t ns) { return static_cast<double>(std::max<int64_t>(ns, 0)) / 1000.0; }

}  // namespace

ModelStatistics::ModelStatistics(MetricsRegistry& registry, const Labels& labels)
    : counters_{
          .success = registry.AddCounter("nv_inference_request_success",
                                         "Number of successful inference requests, all batch sizes",
                                         labels),
          .rejected = FailureCounter(registry, labels, "REJECTED"),
          .cancelled = FailureCounter(registry, labels, "CANCELED"),
          .backend = FailureCounter(registry, labels, "BACKEND"),
          .other = FailureCounter(registry, labels, "OTHER"),
          .count = registry.AddCounter(
              "nv_inference_count",
              "Number of inferences performed (does not include cached requests)", labels),
          .exec_count = registry.AddCounter(
              "nv_inference_exec_count",
              "Number of model executions performed (does not include cached requests)", labels),
          .request_us =
              registry.AddCounter("nv_inference_request_duration_us",
                                  "Cumulative inference request duration in microseconds", labels),
          .queue_us =
              registry.AddCounter("nv_inference_queue_duration_us",
                                  "Cumulative inference queuing duration in microseconds", labels),
          .input_us =
              registry.AddCounter("nv_inference_compute_input_duration_us",
                                  "Cumulative compute input duration in microseconds", labels),
          .infer_us =
              registry.AddCounter("nv_inference_compute_infer_duration_us",
                                  "Cumulative compute inference duration in microseconds", labels),
          .output_us = registry.AddCounter("nv_inference_compute_output_duration_us",
                                           "Cumulative inference compute output duration in "
                                           "microseconds",
                                           labels),
          .cache_hits = registry.AddCounter("nv_cache_num_hits_per_model",
                                            "Number of cache hits per model", labels),
          .cache_misses = registry.AddCounter("nv_cache_num_misses_per_model",
                                              "Number of cache misses per model", labels),
          .cache_hit_us =
              registry.AddCounter("nv_cache_hit_duration_per_model",
                                  "Total cache hit duration per model, in microseconds", labels),
          .cache_miss_us = registry.AddCounter(
              "nv_cache_miss_duration_per_model",
              "Total cache miss duration per model, in microseconds", labels)} {}

void ModelStatistics::OnResponse(const InferCall& call, const InferResponse& response,
                                 bool decoupled) {
  if (!decoupled) return;
  const int64_t now = NowNs();
  const int64_t begin =
      call.times.last_response > 0 ? call.times.last_response : call.times.compute_start;
  MutexLock lock(mutex_);
  ResponseStats& stats = data_.responses[call.num_responses()];
  if (response.is_empty) return stats.empty_response.Add(now - begin);
  if (response.error.code() == StatusCode::kCancelled) return stats.cancel.Add(now - begin);
  stats.compute_infer.Add(now - begin);
  stats.compute_output.Add(0);
  (response.error.ok() ? stats.success : stats.fail).Add(now - begin);
}

void ModelStatistics::OnDone(const InferCall& call, const Status& error, bool rejected) {
  const int64_t now = NowNs();
  const InferCall::Times& t = call.times;
  if (!error.ok()) {
    Counter& reason = error.code() == StatusCode::kCancelled ? counters_.cancelled
                      : rejected                             ? counters_.rejected
                      : t.compute_start > 0                  ? counters_.backend
                                                             : counters_.other;
    reason.Add(1);
    MutexLock lock(mutex_);
    data_.infer.fail.Add(now - t.start);
    return;
  }
  const int64_t start = t.compute_start > 0 ? t.compute_start : now;
  const int64_t input = std::max(t.input_ready, start);
  const int64_t output = t.output_begin > 0 ? std::max(t.output_begin, input) : now;
  counters_.success.Add(1);
  counters_.count.Add(static_cast<double>(call.request().batch_size));
  counters_.request_us.Add(Microseconds(now - t.start));
  counters_.queue_us.Add(Microseconds(start - t.queued));
  counters_.input_us.Add(Microseconds(input - start));
  counters_.infer_us.Add(Microseconds(output - input));
  counters_.output_us.Add(Microseconds(now - output));
  const auto epoch_ms = std::chrono::duration_cast<std::chrono::milliseconds>(
      std::chrono::system_clock::now().time_since_epoch());
  MutexLock lock(mutex_);
  data_.last_inference_ms = static_cast<uint64_t>(epoch_ms.count());
  data_.inference_count += static_cast<uint64_t>(call.request().batch_size);
  data_.infer.success.Add(now - t.start);
  data_.infer.queue.Add(start - t.queued);
  data_.infer.compute_input.Add(input - start);
  data_.infer.compute_infer.Add(output - input);
  data_.infer.compute_output.Add(now - output);
}

void ModelStatistics::OnCacheHit(const InferCall& call, int64_t lookup_ns) {
  const int64_t now = NowNs();
  counters_.success.Add(1);
  counters_.request_us.Add(Microseconds(now - call.times.start));
  counters_.cache_hits.Add(1);
  counters_.cache_hit_us.Add(Microseconds(lookup_ns));
  MutexLock lock(mutex_);
  data_.infer.success.Add(now - call.times.start);
  data_.infer.queue.Add(now - call.times.queued);
  data_.infer.cache_hit.Add(lookup_ns);
}

void ModelStatistics::OnCacheMiss(int64_t lookup_and_insert_ns) {
  counters_.cache_misses.Add(1);
  counters_.cache_miss_us.Add(Microseconds(lookup_and_insert_ns));
  MutexLock lock(mutex_);
  data_.infer.cache_miss.Add(lookup_and_insert_ns);
}

void ModelStatistics::OnExecution(int64_t batch_size, const InferCall::Times& times,
                                  int64_t end_ns) {
  counters_.exec_count.Add(1);
  const int64_t input = std::max(times.input_ready, times.compute_start);
  const int64_t output = times.output_begin > 0 ? std::max(times.output_begin, input) : end_ns;
  MutexLock lock(mutex_);
  ++data_.execution_count;
  BatchStats& stats = data_.batches[static_cast<uint64_t>(batch_size)];
  stats.compute_input.Add(input - times.compute_start);
  stats.compute_infer.Add(output - input);
  stats.compute_output.Add(end_ns - output);
}

StatisticsSnapshot ModelStatistics::Snapshot() const {
  MutexLock lock(mutex_);
  return data_;
}

}  // namespace trireme::server
