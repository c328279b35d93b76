// SPDX-License-Identifier: Apache-2.0
// One inference on its way: the request, its responses, its cancellation and its times.
//
// InferCall is thread-safe, with one rule: responses of a call are given one after another.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "base/mutex.h"
#include "server/core/tensor.h"
#include "trireme/generator.h"

namespace trireme::server {

using ParameterValue = std::variant<bool, int64_t, uint64_t, double, std::string>;
using Parameters = std::map<std::string, ParameterValue>;
// 0 and "": none.
using CorrelationId = std::variant<uint64_t, std::string>;

struct InferRequest {
  std::string id;
  std::string model_name;
  int64_t model_version = -1;  // -1: the highest that is ready
  std::vector<Tensor> inputs;
  // For a text model, in place of tensors: each response then carries `generated`. Shared: the
  // backend keeps it while it runs.
  std::shared_ptr<const GenerateRequest> generation;
  std::vector<std::string> outputs;  // wanted; empty: all
  Parameters parameters;             // custom ones
  CorrelationId sequence_id = uint64_t{0};
  bool sequence_start = false;
  bool sequence_end = false;
  uint64_t priority = 0;    // 0: the model's default
  uint64_t timeout_us = 0;  // 0: the model's default
  // The client takes one response only; a model that can choose should not send several.
  bool single_response = false;
  // Set by validation: the leading dimension of batching models, else 1.
  int64_t batch_size = 1;

  // Rounded up: a timeout below a millisecond is one.
  int64_t timeout_ms() const {
    return static_cast<int64_t>(timeout_us / 1000 + (timeout_us % 1000 > 0 ? 1 : 0));
  }
  const Tensor* FindInput(std::string_view name) const;
  bool Wants(std::string_view output) const;
};

struct InferResponse {
  Status error;  // not OK: final
  std::vector<Tensor> outputs;
  // Of a call with `generation`. Shared: responses are copied.
  std::shared_ptr<GenerateOutput> generated;
  Parameters parameters;
  bool is_final = true;
  bool is_empty = false;  // only says that the call is over, after other responses or none
};

class InferCall;

// The model's eyes on its calls: statistics, order of release.
class CallObserver {
 public:
  virtual ~CallObserver() = default;
  // Before `response` is delivered; may take from it what was not asked for.
  virtual void OnResponse(InferCall& call, InferResponse& response) = 0;
  // After the final response has been delivered; the call does not name the observer again.
  virtual void OnDone(InferCall& call) = 0;
};

// Monotonic nanoseconds.
int64_t NowNs();

class InferCall {
 public:
  using ResponseFn = std::function<void(InferCall&, InferResponse&&)>;

  // `on_response` is called for each response, the last one final, on any thread.
  InferCall(InferRequest request, ResponseFn on_response);

  const InferRequest& request() const { return request_; }
  // What the scheduler adds (the state of a sequence), before the call is executed.
  void AddInput(Tensor input) { request_.inputs.push_back(std::move(input)); }

  // What comes after the final response is dropped.
  void Respond(InferResponse response);
  void Fail(Status error);
  void Finish();  // an empty final response
  bool done() const { return done_.load(std::memory_order_acquire); }
  int num_responses() const { return num_responses_; }

  // Asks the backend to stop; the call still gets its final response from there.
  void Cancel();
  bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }
  // `callback` runs once if the call is cancelled before it is done; at once if it was already.
  void OnCancel(std::function<void()> callback);

  // Set by the model before the call is scheduled.
  void set_observer(CallObserver* observer) { observer_ = observer; }
  // Puts `wrap` of the delivery in the delivery's place; also before the call is scheduled.
  void WrapResponses(const std::function<ResponseFn(ResponseFn)>& wrap) {
    on_response_ = wrap(std::move(on_response_));
  }

  // Marks of NowNs; 0: not reached.
  struct Times {
    int64_t start = 0;
    int64_t queued = 0;
    int64_t compute_start = 0;
    int64_t input_ready = 0;
    int64_t output_begin = 0;
    int64_t last_response = 0;
  };
  Times times;

 private:
  InferRequest request_;
  ResponseFn on_response_;
  CallObserver* observer_ = nullptr;
  std::atomic<bool> done_{false};
  std::atomic<bool> cancelled_{false};
  int num_responses_ = 0;
  Mutex mutex_;
  std::function<void()> on_cancel_ GUARDED_BY(mutex_);
};

}  // namespace trireme::server
