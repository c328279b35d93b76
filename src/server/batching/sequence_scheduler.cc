// SPDX-License-Identifier: Apache-2.0
#include "server/batching/sequence_scheduler.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "base/status.h"

namespace trireme::server {
namespace {

using Control = SequenceBatching::Control;
using Kind = SequenceBatching::ControlKind;

constexpr std::chrono::nanoseconds kLongWait = std::chrono::seconds(3600);
constexpr char kStopping[] =
    "Server is stopping, scheduler for model has stopped accepting new inference requests";

std::chrono::nanoseconds TimeUntil(int64_t when_ns) {
  if (when_ns == 0) return kLongWait;
  return std::chrono::nanoseconds(std::max<int64_t>(0, when_ns - NowNs()));
}

bool HasId(const InferRequest& request) {
  if (const auto* text = std::get_if<std::string>(&request.sequence_id)) return !text->empty();
  return std::get<uint64_t>(request.sequence_id) != 0;
}

// The bytes of a correlation id as one element of `type`.
StatusOr<std::string> IdBytes(const CorrelationId& id, DataType type, const std::string& model) {
  std::string bytes;
  const auto* text = std::get_if<std::string>(&id);
  const auto* number = std::get_if<uint64_t>(&id);
  if (type == DataType::kBytes) {
    AppendBytesElement(bytes, text != nullptr ? *text : std::to_string(*number));
    return bytes;
  }
  if (text != nullptr) {
    return InvalidArgument("model '{}' wants a number as correlation id, not '{}'", model, *text);
  }
  // Little-endian: the low bytes are the value of a shorter type.
  bytes.resize(static_cast<size_t>(ElementBytes(type)));
  std::memcpy(bytes.data(), number, bytes.size());
  return bytes;
}

Tensor ControlTensor(const ModelConfig& config, const Control& control, std::string bytes) {
  return MakeTensor(control.input, control.type, config.max_batch_size > 0 ? Dims{1, 1} : Dims{1},
                    std::move(bytes));
}

}  // namespace

Status AddSequenceControls(const ModelConfig& config, InferRequest& request) {
  if (!HasId(request)) {
    return InvalidArgument(
        "inference request to model '{}' must specify a non-zero or non-empty correlation ID",
        config.name);
  }
  if (request.batch_size > 1) {
    return InvalidArgument(
        "inference request to model '{}' must specify batch-size 1 due to requirements of sequence "
        "batcher",
        config.name);
  }
  for (const Control& control : config.sequence_batching->controls) {
    std::string bytes = control.kind == Kind::kReady ||
                                (control.kind == Kind::kStart && request.sequence_start) ||
                                (control.kind == Kind::kEnd && request.sequence_end)
                            ? control.true_value
                            : control.false_value;
    if (control.kind == Kind::kCorrelationId) {
      TRIREME_ASSIGN_OR_RETURN(bytes, IdBytes(request.sequence_id, control.type, config.name));
    }
    request.inputs.push_back(ControlTensor(config, control, std::move(bytes)));
  }
  return OkStatus();
}

InferRequest NullRequest(const ModelConfig& config, const InferRequest& like) {
  InferRequest request;
  request.model_name = like.model_name;
  request.batch_size = 0;  // it counts for nothing
  for (const Tensor& input : like.inputs) {
    // Zero bytes are zeros of every type, and empty strings: one length of four bytes for each.
    const int64_t count = ElementCount(input.shape).value_or(0);
    const int64_t element = input.type == DataType::kBytes ? 4 : ElementBytes(input.type);
    request.inputs.push_back(MakeTensor(input.name, input.type, input.shape,
                                        std::string(static_cast<size_t>(count * element), '\0')));
  }
  for (const Control& control : config.sequence_batching->controls) {
    if (control.kind == Kind::kCorrelationId) continue;  // zero
    std::erase_if(request.inputs, [&](const Tensor& t) { return t.name == control.input; });
    request.inputs.push_back(ControlTensor(config, control, control.false_value));
  }
  return request;
}

SequenceScheduler::SequenceScheduler(const ModelConfig& config, RunFn run)
    : config_(config), run_(std::move(run)), slots_(config, config.num_instances()) {}

std::shared_ptr<SequenceScheduler> SequenceScheduler::Start(const ModelConfig& config, RunFn run) {
  std::shared_ptr<SequenceScheduler> scheduler(new SequenceScheduler(config, std::move(run)));
  SequenceScheduler* const self = scheduler.get();
  for (int i = 0; i < config.num_instances(); ++i) {
    self->threads_.emplace_back([self, i] { self->RunInstance(i); });
  }
  self->threads_.emplace_back([self] { self->WatchTime(); });
  return scheduler;
}

SequenceScheduler::~SequenceScheduler() { Stop(); }

void SequenceScheduler::Enqueue(const std::shared_ptr<InferCall>& call) {
  Status status;
  {
    MutexLock lock(mutex_);
    status = stopping_ ? Unavailable(kStopping) : slots_.Push(call, NowNs());
    if (status.ok()) changed_.NotifyAll();
  }
  if (!status.ok()) return call->Fail(std::move(status));
  call->OnCancel([weak = weak_from_this(), who = call.get()] {
    if (const auto self = weak.lock()) self->Remove(*who);
  });
}

void SequenceScheduler::Remove(InferCall& call) {
  {
    MutexLock lock(mutex_);
    if (!slots_.Remove(call, NowNs())) return;
    changed_.NotifyAll();
  }
  call.Fail(Cancelled(""));
}

void SequenceScheduler::OnResponse(const InferCall& call, InferResponse& response) {
  MutexLock lock(mutex_);
  slots_.TakeStates(call, response);
}

void SequenceScheduler::OnDone(const InferCall& call) {
  MutexLock lock(mutex_);
  slots_.Done(call, NowNs());
  changed_.NotifyAll();
}

void SequenceScheduler::FillPlaces(std::vector<std::shared_ptr<InferCall>>& batch) const {
  const auto real =
      std::find_if(batch.begin(), batch.end(), [](const auto& c) { return c != nullptr; });
  const InferRequest& like = (*real)->request();
  for (auto& call : batch) {
    if (call != nullptr) continue;
    call =
        std::make_shared<InferCall>(NullRequest(config_, like), [](InferCall&, InferResponse&&) {});
  }
}

void SequenceScheduler::RunInstance(int instance) {
  while (true) {
    SequenceSlots::Next next;
    {
      MutexLock lock(mutex_);
      while (!stopping_) {
        next = slots_.Take(instance, NowNs());
        if (!next.batch.empty()) break;
        changed_.WaitFor(mutex_, TimeUntil(next.wait_until_ns));
      }
      if (stopping_ && next.batch.empty()) return;
    }
    FillPlaces(next.batch);
    run_(next.batch, instance, BatchClose::kDrained);
  }
}

void SequenceScheduler::WatchTime() {
  while (true) {
    SequenceSlots::Expired expired;
    {
      MutexLock lock(mutex_);
      if (stopping_) return;
      expired = slots_.Expire(NowNs());
      if (expired.freed) changed_.NotifyAll();
      if (expired.calls.empty()) changed_.WaitFor(mutex_, TimeUntil(slots_.next_expiry_ns()));
    }
    for (const auto& call : expired.calls) call->Fail(Unavailable("Request timeout expired"));
  }
}

void SequenceScheduler::Stop() {
  std::vector<std::shared_ptr<InferCall>> left;
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    left = slots_.TakeAll();
    changed_.NotifyAll();
  }
  for (const auto& call : left) call->Fail(Unavailable(kStopping));
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
  threads_.clear();
}

}  // namespace trireme::server
