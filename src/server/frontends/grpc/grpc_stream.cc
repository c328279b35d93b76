// SPDX-License-Identifier: Apache-2.0
#include "server/frontends/grpc/grpc_stream.h"

#include <atomic>
#include <deque>
#include <map>

#include "base/mutex.h"
#include "base/status.h"
#include "server/frontends/deliver_outputs.h"
#include "server/frontends/grpc/grpc_convert.h"

namespace trireme::server {
namespace {

constexpr char kStopping[] = "GRPC server is shutting down and has stopped accepting new requests.";
constexpr char kDecoupled[] =
    "ModelInfer RPC doesn't support models with decoupled transaction policy";
// A stream that does not take its responses is not read further.
constexpr size_t kMaxUnsent = 1024;

class InferReactor : public grpc::ServerUnaryReactor {
 public:
  InferReactor(GrpcContext grpc, inference::ModelInferResponse* response)
      : grpc_(grpc), response_(response) {}

  void Start(const inference::ModelInferRequest& from) {
    if (const Status status = TryStart(from); !status.ok()) Finish(ToGrpc(status));
  }

  // One for the answer, one for gRPC: the last one deletes.
  void OnDone() override { Release(); }
  void OnCancel() override {
    std::shared_ptr<InferCall> call;
    {
      MutexLock lock(mutex_);
      cancelled_ = true;
      call = call_;
    }
    if (call != nullptr) call->Cancel();
  }

 private:
  Status TryStart(const inference::ModelInferRequest& from) {
    if (grpc_.core.exiting()) return Unavailable("{}", kStopping);
    TRIREME_ASSIGN_OR_RETURN(const int64_t version, ParseGrpcVersion(from.model_version()));
    TRIREME_ASSIGN_OR_RETURN(model_, grpc_.core.FindModel(from.model_name(), version));
    // The request lives until the call is finished, which is after the final response.
    TRIREME_ASSIGN_OR_RETURN(GrpcInferRequest parsed,
                             FromProto(from, nullptr, grpc_.shared_memory));
    outputs_ = std::move(parsed.outputs);
    parsed.request.single_response = true;
    references_.fetch_add(1);
    auto call = grpc_.core.Infer(model_, std::move(parsed.request),
                                 [this](InferCall& from_call, InferResponse&& response) {
                                   OnResponse(from_call, std::move(response));
                                 });
    if (!call.ok()) {
      references_.fetch_sub(1);
      return std::move(call).status();
    }
    bool cancelled = false;
    {
      MutexLock lock(mutex_);
      call_ = *call;
      cancelled = cancelled_;
    }
    if (cancelled) (*call)->Cancel();
    Release();
    return OkStatus();
  }

  void OnResponse(InferCall& call, InferResponse&& response) {
    if (!responses_.Add(std::move(response))) return;
    Finish(ToGrpc(Answer(call.request())));
  }

  Status Answer(const InferRequest& request) {
    TRIREME_ASSIGN_OR_RETURN(InferResponse response,
                             responses_.Result(model_->config().decoupled, kDecoupled));
    TRIREME_RETURN_IF_ERROR(DeliverOutputs(response, outputs_, *model_, grpc_.shared_memory));
    ToProto(response, {request, model_->version(), outputs_}, *response_);
    return OkStatus();
  }

  void Release() {
    if (references_.fetch_sub(1) == 1) delete this;
  }

  const GrpcContext grpc_;
  inference::ModelInferResponse* const response_;
  std::shared_ptr<Model> model_;
  OutputOptionsMap outputs_;
  SingleResponse responses_;
  std::atomic<int> references_{1};  // gRPC's, and one while TryStart still uses this object
  Mutex mutex_;
  std::shared_ptr<InferCall> call_ GUARDED_BY(mutex_);
  bool cancelled_ GUARDED_BY(mutex_) = false;
};

using StreamReactorBase =
    grpc::ServerBidiReactor<inference::ModelInferRequest, inference::ModelStreamInferResponse>;
using StreamResponse = std::unique_ptr<inference::ModelStreamInferResponse>;

// A stream. It deletes itself when gRPC and every call have let go of it. Responses of models that
// answer once keep the order of their requests; those of decoupled models go as they come.
class StreamReactor : public StreamReactorBase {
 public:
  StreamReactor(grpc::CallbackServerContext* context, GrpcContext grpc) : grpc_(grpc) {
    const auto& metadata = context->client_metadata();
    const auto found = metadata.find("triton_grpc_error");
    errors_end_stream_ = found != metadata.end() && found->second == "true";
  }

  void Start() { ReadNext(); }

  void OnReadDone(bool ok) override {
    if (!ok) {
      bool finish = false;
      {
        MutexLock lock(mutex_);
        half_closed_ = true;
        finish = TakeFinish();
      }
      if (finish) Finish(final_status_);
      return;
    }
    HandleRequest(std::move(reading_));
    bool read = false;
    {
      MutexLock lock(mutex_);
      read = unsent_.size() < kMaxUnsent && !finished_;
      paused_ = !read;
    }
    if (read) ReadNext();
  }

  void OnWriteDone(bool ok) override {
    bool read = false;
    bool finish = false;
    {
      MutexLock lock(mutex_);
      unsent_.pop_front();
      writing_ = false;
      if (!ok) broken_ = true;
      WriteNext();
      if (paused_ && !finished_ && unsent_.size() < kMaxUnsent / 2) {
        paused_ = false;
        read = true;
      }
      finish = TakeFinish();
    }
    if (finish) return Finish(final_status_);
    if (read) ReadNext();
  }

  void OnCancel() override {
    std::vector<std::shared_ptr<InferCall>> calls;
    {
      MutexLock lock(mutex_);
      broken_ = true;
      half_closed_ = true;
      for (const auto& [id, weak] : calls_) {
        if (auto call = weak.lock()) calls.push_back(std::move(call));
      }
    }
    for (const auto& call : calls) call->Cancel();
    bool finish = false;
    {
      MutexLock lock(mutex_);
      finish = TakeFinish();
    }
    if (finish) Finish(final_status_);
  }

  void OnDone() override { delete this; }

 private:
  // One request of the stream, until its final response.
  struct Item {
    std::shared_ptr<const inference::ModelInferRequest> message;
    std::shared_ptr<Model> model;
    OutputOptionsMap outputs;
    bool decoupled = false;
    bool empty_final = false;
    bool done = false;
    std::deque<StreamResponse> held;  // until the requests before it are done
    uint64_t id = 0;
  };

  void ReadNext() {
    reading_ = std::make_shared<inference::ModelInferRequest>();
    StartRead(reading_.get());
  }

  void HandleRequest(std::shared_ptr<const inference::ModelInferRequest> message) {
    auto item = std::make_shared<Item>();
    item->message = std::move(message);
    {
      MutexLock lock(mutex_);
      item->id = next_id_++;
      ++open_;
      order_.push_back(item);
    }
    if (const Status status = StartItem(item); !status.ok()) {
      InferResponse failed;
      failed.error = status;
      OnResponse(*item, nullptr, std::move(failed));
    }
  }

  Status StartItem(const std::shared_ptr<Item>& item) {
    if (grpc_.core.exiting()) return Unavailable("{}", kStopping);
    const inference::ModelInferRequest& from = *item->message;
    TRIREME_ASSIGN_OR_RETURN(const int64_t version, ParseGrpcVersion(from.model_version()));
    TRIREME_ASSIGN_OR_RETURN(item->model, grpc_.core.FindModel(from.model_name(), version));
    TRIREME_ASSIGN_OR_RETURN(GrpcInferRequest parsed,
                             FromProto(from, item->message, grpc_.shared_memory));
    item->outputs = std::move(parsed.outputs);
    item->empty_final = parsed.empty_final_response;
    {
      MutexLock lock(mutex_);
      item->decoupled = item->model->config().decoupled;
    }
    TRIREME_ASSIGN_OR_RETURN(
        const std::shared_ptr<InferCall> call,
        grpc_.core.Infer(item->model, std::move(parsed.request),
                         [this, item](InferCall& from_call, InferResponse&& response) {
                           OnResponse(*item, &from_call.request(), std::move(response));
                         }));
    bool cancel = false;
    {
      MutexLock lock(mutex_);
      if (!call->done()) calls_[item->id] = call;
      cancel = broken_;
    }
    if (cancel) call->Cancel();
    return OkStatus();
  }

  // Null when there is nothing to send for it.
  StreamResponse Message(const Item& item, const InferRequest* request, InferResponse&& response) {
    auto message = std::make_unique<inference::ModelStreamInferResponse>();
    Status status = std::move(response.error);
    if (status.ok() && response.is_empty && !item.empty_final) return nullptr;
    if (status.ok()) {
      status = DeliverOutputs(response, item.outputs, *item.model, grpc_.shared_memory);
    }
    inference::ModelInferResponse& reply = *message->mutable_infer_response();
    if (status.ok()) {
      ToProto(response, {*request, item.model->version(), item.outputs}, reply);
      (*reply.mutable_parameters())["triton_final_response"].set_bool_param(response.is_final);
    } else {
      message->set_error_message(std::string(status.message()));
      reply.set_id(item.message->id());
      reply.set_model_name(item.message->model_name());
      reply.set_model_version(item.message->model_version());
      if (errors_end_stream_) {
        MutexLock lock(mutex_);
        if (final_status_.ok()) final_status_ = ToGrpc(status);
        return nullptr;
      }
    }
    return message;
  }

  void OnResponse(Item& item, const InferRequest* request, InferResponse&& response) {
    const bool is_final = response.is_final || !response.error.ok();
    StreamResponse message = Message(item, request, std::move(response));
    bool finish = false;
    {
      MutexLock lock(mutex_);
      if (message != nullptr && !broken_) {
        (item.decoupled ? unsent_ : item.held).push_back(std::move(message));
      }
      if (is_final) {
        item.done = true;
        calls_.erase(item.id);
        --open_;
      }
      while (!order_.empty() && (order_.front()->done || order_.front()->decoupled)) {
        for (StreamResponse& held : order_.front()->held) unsent_.push_back(std::move(held));
        order_.pop_front();
      }
      WriteNext();
      finish = TakeFinish();
    }
    // The last thing done here: gRPC may let go of this object at once.
    if (finish) Finish(final_status_);
  }

  void WriteNext() REQUIRES(mutex_) {
    if (writing_ || finished_) return;
    if (broken_ || !final_status_.ok()) {
      unsent_.clear();
      return;
    }
    if (unsent_.empty()) return;
    writing_ = true;
    StartWrite(unsent_.front().get());
  }

  // Whether the stream is over; true once. Finish is called without the lock, because gRPC may delete
  // this object as soon as it is.
  bool TakeFinish() REQUIRES(mutex_) {
    if (finished_ || writing_ || open_ > 0) return false;
    const bool over = half_closed_ || !final_status_.ok();
    if (!over || (!unsent_.empty() && !broken_)) return false;
    finished_ = true;
    return true;
  }

  const GrpcContext grpc_;
  bool errors_end_stream_ = false;
  std::shared_ptr<inference::ModelInferRequest> reading_;
  Mutex mutex_;
  std::deque<StreamResponse> unsent_ GUARDED_BY(mutex_);
  std::deque<std::shared_ptr<Item>> order_ GUARDED_BY(mutex_);
  std::map<uint64_t, std::weak_ptr<InferCall>> calls_ GUARDED_BY(mutex_);
  uint64_t next_id_ GUARDED_BY(mutex_) = 0;
  int open_ GUARDED_BY(mutex_) = 0;  // requests without a final response
  // Not changed any more once TakeFinish said true.
  grpc::Status final_status_;
  bool writing_ GUARDED_BY(mutex_) = false;
  bool paused_ GUARDED_BY(mutex_) = false;
  bool half_closed_ GUARDED_BY(mutex_) = false;
  bool broken_ GUARDED_BY(mutex_) = false;  // the client is gone; nothing more is written
  bool finished_ GUARDED_BY(mutex_) = false;
};

}  // namespace

grpc::Status ToGrpc(const Status& status) {
  if (status.ok()) return grpc::Status::OK;
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(status.message()));
}

grpc::ServerUnaryReactor* StartModelInfer(grpc::CallbackServerContext* context, GrpcContext grpc,
                                          const inference::ModelInferRequest* request,
                                          inference::ModelInferResponse* response) {
  auto* reactor = new InferReactor(grpc, response);
  reactor->Start(*request);
  return reactor;
}

StreamReactorBase* StartModelStream(grpc::CallbackServerContext* context, GrpcContext grpc) {
  auto* reactor = new StreamReactor(context, grpc);
  reactor->Start();
  return reactor;
}

}  // namespace trireme::server
