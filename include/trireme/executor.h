// SPDX-License-Identifier: Apache-2.0
// Executor: runs an engine. Requests in token ids go in, responses come out; in-flight batching,
// paged KV cache and sampling happen inside. Thread-safe.
//
//   auto executor = trireme::Executor::Create("engine_dir", {}).value();
//   auto id = executor->Enqueue({.prompt = ids, .max_tokens = 32}).value();
//   for (bool done = false; !done;) {
//     for (auto& response : executor->AwaitResponses(id)) done |= response.is_final;
//   }
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "trireme/model_config.h"
#include "trireme/request.h"
#include "trireme/status.h"

namespace trireme {

enum class CapacityPolicy {
  kGuaranteedNoEvict,  // admit only when the worst case of all running requests fits; never pauses
  kMaxUtilization,     // pack now; pause the youngest and recompute it when blocks run out
  kStaticBatch,        // no new request until the whole batch is done
};

enum class ChunkingPolicy { kFirstComeFirstServed, kEqualProgress };

struct KvCacheConfig {
  bool enable_block_reuse = false;
  int max_tokens = 0;                 // 0: from the fraction; the smaller of both wins
  double free_memory_fraction = 0.9;  // in (0, 1); of the memory free after the weights are loaded
  int max_attention_window = 0;       // 0: the model's own; others are refused
};

struct ExecutorConfig {
  CapacityPolicy capacity_policy = CapacityPolicy::kGuaranteedNoEvict;
  ChunkingPolicy chunking_policy = ChunkingPolicy::kFirstComeFirstServed;
  bool enable_chunked_context = true;
  KvCacheConfig kv_cache;
  // 0: what the engine was built with. Limits are run-time settings; no rebuild is needed.
  int max_batch_size = 0;
  int max_num_tokens = 0;
  int max_seq_len = 0;
  int max_queue_size = 0;          // waiting requests; 0: no limit
  int num_threads = 0;             // CPU backend: 0 takes one per processor
  bool reference_backend = false;  // the plain C++ kernels, for checking
  bool cuda_graphs = true;         // GPU: decode steps are replayed from captured graphs
  bool overlap_steps = true;       // GPU: a step is submitted before the one before it is read back
  bool verify_weights = false;     // read all weights against their checksums before the first step
  int iter_stats_max_iterations = 1000;
};

struct KvCacheStats {
  int max_num_blocks = 0;
  int free_num_blocks = 0;
  int used_num_blocks = 0;
  int tokens_per_block = 0;
  int64_t alloc_total_blocks = 0;
  int64_t reused_blocks = 0;
  int64_t missed_blocks = 0;
};

// One iteration of the loop.
struct IterationStats {
  int64_t iter = 0;
  double timestamp_s = 0;  // seconds since the Unix epoch
  double iter_latency_ms = 0;
  int num_queued_requests = 0;
  int num_active_requests = 0;
  int max_num_active_requests = 0;
  int num_new_active_requests = 0;
  int num_completed_requests = 0;
  int num_scheduled_requests = 0;
  int num_context_requests = 0;
  int num_gen_requests = 0;
  int num_paused_requests = 0;
  int num_ctx_tokens = 0;
  int num_gen_tokens = 0;
  int64_t cpu_mem_usage_bytes = 0;
  // Of the device, on a GPU; launches 0: not known (a CPU, or a step that sampled nothing).
  double device_idle_us = 0;  // between the step before and this one
  double device_busy_us = 0;
  int device_launches = 0;  // kernels and graphs that the host submitted
  KvCacheStats kv_cache;
};

// Sums since the executor started.
struct ExecutorTotals {
  int64_t requests_accepted = 0;
  int64_t requests_completed = 0;  // every final response, whatever its reason
  int64_t prompt_tokens = 0;       // of scheduled prompts, recomputation included
  int64_t recomputed_tokens = 0;   // scheduled again after a pause
  int64_t generated_tokens = 0;    // emitted
  int64_t pauses = 0;
};

// What a client needs to know of the loaded engine.
struct EngineInfo {
  ModelConfig model;
  int max_batch_size = 0;
  int max_num_tokens = 0;
  int max_seq_len = 0;
  int tokens_per_block = 0;
  int64_t weight_bytes = 0;  // read once per decode step of a full batch or less
  int64_t kv_cache_bytes = 0;
  std::string device;  // "cpu avx512", "NVIDIA H200"
};

class Executor {
 public:
  // Loads DIR/config.json and DIR/rank*.engine (or one bare *.engine file).
  static StatusOr<std::unique_ptr<Executor>> Create(const std::string& engine_path,
                                                    const ExecutorConfig& config);
  // Cancels what is left and stops.
  virtual ~Executor() = default;

  // Accepts a request or says why not (INVALID_ARGUMENT names the field and its range;
  // RESOURCE_EXHAUSTED: the queue is full).
  virtual StatusOr<RequestId> Enqueue(Request request) = 0;
  // The same, with every response handed to `on_response`, on one thread of the executor; it must
  // return soon and must not call back into the executor except Enqueue and Cancel.
  using ResponseCallback = std::function<void(Response&&)>;
  virtual StatusOr<RequestId> Enqueue(Request request, ResponseCallback on_response) = 0;

  // Responses that are ready, at least one unless `timeout` passes first. The form with an id
  // returns those of that request; an id without open responses returns nothing at once. After
  // Shutdown what is left is returned, then nothing.
  virtual std::vector<Response> AwaitResponses(
      std::optional<RequestId> id = std::nullopt,
      std::chrono::milliseconds timeout = std::chrono::milliseconds::max()) = 0;
  virtual int NumResponsesReady(std::optional<RequestId> id = std::nullopt) const = 0;

  // Ends a request in any state; it still gets one final response, with the tokens so far.
  // Unknown and finished ids are ignored.
  virtual void Cancel(RequestId id) = 0;

  virtual std::vector<IterationStats> LatestIterationStats() = 0;  // and forgets them
  virtual ExecutorTotals Totals() const = 0;
  virtual KvCacheStats KvCache() const = 0;
  virtual const EngineInfo& Info() const = 0;

  // True until a fatal error; afterwards every request fails with its cause.
  virtual bool IsHealthy() const = 0;

  // Takes no new request, finishes the accepted ones (at most `drain`), cancels the rest. Not from
  // a callback.
  virtual void Shutdown(std::chrono::milliseconds drain = std::chrono::milliseconds::max()) = 0;
};

}  // namespace trireme
