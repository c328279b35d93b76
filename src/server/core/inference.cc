// SPDX-License-Identifier: Apache-2.0
#include "server/core/inference.h"

#include <algorithm>
#include <chrono>

#include "base/status.h"

namespace trireme::server {

const Tensor* InferRequest::FindInput(std::string_view name) const {
  for (const Tensor& input : inputs) {
    if (input.name == name) return &input;
  }
  return nullptr;
}

bool InferRequest::Wants(std::string_view output) const {
  return outputs.empty() || std::find(outputs.begin(), outputs.end(), output) != outputs.end();
}

int64_t NowNs() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

InferCall::InferCall(InferRequest request, ResponseFn on_response)
    : request_(std::move(request)), on_response_(std::move(on_response)) {
  times.start = NowNs();
}

void InferCall::Respond(InferResponse response) {
  if (done()) return;
  if (!response.error.ok()) response.is_final = true;
  const bool is_final = response.is_final;
  if (observer_ != nullptr) observer_->OnResponse(*this, response);
  if (!response.is_empty) ++num_responses_;
  if (is_final) {
    done_.store(true, std::memory_order_release);
    MutexLock lock(mutex_);
    on_cancel_ = nullptr;
  }
  on_response_(*this, std::move(response));
  if (is_final && observer_ != nullptr) observer_->OnDone(*this);
}

void InferCall::Fail(Status error) {
  InferResponse response;
  response.error = std::move(error);
  Respond(std::move(response));
}

void InferCall::Finish() {
  InferResponse response;
  response.is_empty = true;
  Respond(std::move(response));
}

void InferCall::Cancel() {
  std::function<void()> callback;
  {
    MutexLock lock(mutex_);
    if (done() || cancelled_.exchange(true)) return;
    callback = std::move(on_cancel_);
    on_cancel_ = nullptr;
  }
  if (callback) callback();
}

void InferCall::OnCancel(std::function<void()> callback) {
  {
    MutexLock lock(mutex_);
    if (done()) return;
    if (!cancelled()) {
      on_cancel_ = std::move(callback);
      return;
    }
  }
  callback();
}

}  // namespace trireme::server
