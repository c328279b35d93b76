// SPDX-License-Identifier: Apache-2.0
#include "server/backends/python/nested_calls.h"

#include <charconv>

#include "base/status.h"
#include "server/core/model.h"

namespace trireme::server {

void NestedCalls::Start(uint64_t number, InferRequest request, bool decoupled) {
  // Shared: std::function wants to be copied.
  auto single = decoupled ? nullptr : std::make_shared<Single>();
  const auto on_response = [self = shared_from_this(), number, single](InferCall&,
                                                                       InferResponse&& response) {
    self->OnResponse(number, single.get(), std::move(response));
  };
  StatusOr<std::shared_ptr<InferCall>> call = caller_.Infer(std::move(request), on_response);
  if (!call.ok()) {
    InferResponse failed;
    failed.error = call.status();
    return Send(number, failed);
  }
  MutexLock lock(mutex_);
  if (!(*call)->done()) running_[number] = std::move(*call);
}

void NestedCalls::OnResponse(uint64_t number, Single* single, InferResponse&& response) {
  const bool is_final = response.is_final;
  if (single == nullptr) {
    Send(number, response);
  } else {
    if (!response.is_empty && single->count++ == 0) single->first = std::move(response);
    if (is_final && single->count != 1) {
      single->first = InferResponse();
      single->first.error = InvalidArgument(
          "the model answered with {} responses where one was expected; ask with decoupled=True",
          single->count);
    }
    if (is_final) {
      single->first.is_final = true;
      Send(number, single->first);
    }
  }
  if (!is_final) return;
  MutexLock lock(mutex_);
  running_.erase(number);
}

void NestedCalls::Send(uint64_t number, const InferResponse& response) {
  OutgoingMessage message("infer_response");
  Json& json = message.json();
  json["call"] = number;
  json["final"] = response.is_final || !response.error.ok();
  json["empty"] = response.is_empty;
  json["parameters"] = ToJson(response.parameters);
  json["outputs"] = message.AddTensors(response.outputs);
  if (!response.error.ok()) {
    json["error"] = std::string(response.error.message());
    json["code"] = ErrorOfStatusCode(response.error.code());
  }
  const Status sent = channel_->Send(message);
  if (sent.ok() || sent.code() == StatusCode::kUnavailable) return;
  // The tensors did not go; the model must hear of it all the same.
  InferResponse failed;
  failed.error = sent;
  Send(number, failed);
}

void NestedCalls::Cancel(uint64_t number) {
  std::shared_ptr<InferCall> call;
  {
    MutexLock lock(mutex_);
    const auto found = running_.find(number);
    if (found == running_.end()) return;
    call = found->second;
  }
  call->Cancel();
}

void NestedCalls::CancelAll() {
  std::map<uint64_t, std::shared_ptr<InferCall>> calls;
  {
    MutexLock lock(mutex_);
    calls.swap(running_);
  }
  for (const auto& [number, call] : calls) call->Cancel();
}

void NestedCalls::AnswerIsModelReady(uint64_t number, const std::string& name,
                                     const std::string& version) {
  int64_t wanted = -1;
  std::from_chars(version.data(), version.data() + version.size(), wanted);
  OutgoingMessage message("reply");
  message.json()["call"] = number;
  message.json()["ready"] = caller_.FindModel(name, wanted).ok();
  (void)channel_->Send(message).ok();  // a process that is gone needs no answer
}

}  // namespace trireme::server
