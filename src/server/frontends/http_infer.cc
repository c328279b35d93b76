// SPDX-License-Identifier: Apache-2.0
// The routes that run a model: infer, generate, generate_stream.
#include "base/status.h"
#include "server/error_reply.h"
#include "server/frontends/compression.h"
#include "server/frontends/deliver_outputs.h"
#include "server/frontends/generate_json.h"
#include "server/frontends/http_routes.h"
#include "server/frontends/infer_json.h"
#include "server/frontends/infer_reply.h"

namespace trireme::server {
namespace {

const std::string* FindHeader(const HttpRequest& request, const char* name) {
  const auto found = request.headers.find(name);
  return found == request.headers.end() ? nullptr : &found->second;
}

// The body of an infer request, decompressed; it refers to the exchange, which it keeps.
StatusOr<InferBody> BodyOf(const std::shared_ptr<HttpExchange>& exchange, int64_t max_json_bytes) {
  const HttpRequest& request = exchange->request();
  InferBody body{request.body, exchange, std::nullopt, max_json_bytes};
  if (const std::string* name = FindHeader(request, "content-encoding")) {
    TRIREME_ASSIGN_OR_RETURN(const Encoding encoding, ParseEncoding(*name));
    if (encoding != Encoding::kIdentity) {
      TRIREME_ASSIGN_OR_RETURN(std::string plain,
                               Decompress(request.body, encoding, max_json_bytes));
      const auto owner = std::make_shared<const std::string>(std::move(plain));
      body.bytes = *owner;
      body.owner = owner;
    }
  }
  if (const std::string* length = FindHeader(request, "inference-header-content-length")) {
    TRIREME_ASSIGN_OR_RETURN(body.json_bytes, ParseJsonLength(*length, body.bytes.size()));
  }
  return body;
}

void CompressFor(const HttpRequest& request, HttpResponse& response) {
  const std::string* accept = FindHeader(request, "accept-encoding");
  const Encoding encoding = accept == nullptr ? Encoding::kIdentity : ChooseEncoding(*accept);
  if (encoding == Encoding::kIdentity || response.body.empty()) return;
  response.body = Compress(response.body, encoding);
  response.headers["Content-Encoding"] = EncodingName(encoding);
}

// The call is cancelled when its client goes.
void CancelWithClient(HttpExchange& exchange, const std::shared_ptr<InferCall>& call) {
  exchange.OnDisconnect([weak = std::weak_ptr<InferCall>(call)] {
    if (const auto alive = weak.lock()) alive->Cancel();
  });
}

HttpResponse EncodingError(const Status& status) {
  HttpResponse response = ErrorResponse(status);
  if (status.code() == StatusCode::kUnimplemented) {
    response.headers["Accept-Encoding"] = "gzip, deflate";
  }
  return response;
}

// What answering an infer request takes besides the call.
struct InferJob {
  std::shared_ptr<HttpExchange> exchange;
  std::shared_ptr<Model> model;
  std::string model_name;
  OutputOptionsMap outputs;
  bool binary_outputs = false;
  SingleResponse responses;

  HttpResponse Reply(const InferRequest& request, const SharedMemory& shared_memory) {
    const bool decoupled = model->config().decoupled;
    StatusOr<InferResponse> response = responses.Result(
        decoupled, decoupled
                       ? "HTTP end point doesn't support models with decoupled transaction policy"
                       : "expected a single response");
    if (!response.ok()) return ErrorResponse(response.status());
    const Status delivered = DeliverOutputs(*response, outputs, *model, shared_memory);
    if (!delivered.ok()) return ErrorResponse(delivered);
    StatusOr<HttpResponse> reply =
        InferReply(*response, {request.id, model_name, model->version(), outputs, binary_outputs});
    if (!reply.ok()) return ErrorResponse(reply.status());
    CompressFor(exchange->request(), *reply);
    return std::move(*reply);
  }
};

// One stream of events: the first response decides the status, later errors are events.
struct EventJob {
  std::shared_ptr<HttpExchange> exchange;
  std::shared_ptr<Model> model;
  std::string model_name;
  bool begun = false;

  void OnResponse(const InferRequest& request, const InferResponse& response) {
    if (!response.error.ok()) {
      Begin(HttpStatusOf(response.error.code()));
      exchange->Write("data: " + ErrorJson(response.error.message()) + "\n\n");
    } else if (!response.is_empty) {
      const StatusOr<std::string> json =
          GenerateReply(response, request.id, model_name, model->version());
      Begin(json.ok() ? 200 : HttpStatusOf(json.status().code()));
      exchange->Write("data: " + (json.ok() ? *json : ErrorJson(json.status().message())) + "\n\n");
    }
    if (!response.is_final) return;
    Begin(200);
    exchange->End();
  }

 private:
  void Begin(int status) {
    if (begun) return;
    begun = true;
    HttpResponse head;
    head.status = status;
    head.content_type = "text/event-stream; charset=utf-8";
    exchange->BeginStream(std::move(head));
  }
};

}  // namespace

void HttpRoutes::Infer(const Exchange& exchange, const std::string& name, int64_t version) {
  const StatusOr<std::shared_ptr<Model>> model = core_.FindModel(name, version);
  if (!model.ok()) return exchange->Send(ErrorResponse(model.status()));
  const StatusOr<InferBody> body = BodyOf(exchange, max_json_bytes_);
  if (!body.ok()) return exchange->Send(EncodingError(body.status()));
  StatusOr<HttpInferRequest> parsed = ParseInferRequest(*body, (*model)->config(), shared_memory_);
  if (!parsed.ok()) return exchange->Send(ErrorResponse(parsed.status()));
  parsed->request.model_name = name;
  parsed->request.model_version = version;
  parsed->request.single_response = true;
  auto job = std::make_shared<InferJob>(InferJob{.exchange = exchange,
                                                 .model = *model,
                                                 .model_name = name,
                                                 .outputs = std::move(parsed->outputs),
                                                 .binary_outputs = parsed->binary_outputs,
                                                 .responses = {}});
  const auto call = core_.Infer(
      *model, std::move(parsed->request),
      [job, &shared_memory = shared_memory_](InferCall& from, InferResponse&& response) {
        if (!job->responses.Add(std::move(response))) return;
        job->exchange->Send(job->Reply(from.request(), shared_memory));
      });
  if (!call.ok()) return exchange->Send(ErrorResponse(call.status()));
  CancelWithClient(*exchange, *call);
}

void HttpRoutes::Generate(const Exchange& exchange, const std::string& name, int64_t version,
                          bool stream) {
  const StatusOr<std::shared_ptr<Model>> model = core_.FindModel(name, version);
  if (!model.ok()) return exchange->Send(ErrorResponse(model.status()));
  const std::string* encoding = FindHeader(exchange->request(), "content-encoding");
  if (encoding != nullptr && *encoding != "identity") {
    return exchange->Send(EncodingError(Unimplemented(
        "Unsupported Content-Encoding '{}'; generate takes identity only", *encoding)));
  }
  if (std::cmp_greater(exchange->request().body.size(), max_json_bytes_)) {
    return exchange->Send(ErrorResponse(
        InvalidArgument("request JSON size {} exceeds the maximum allowed input size of {}",
                        exchange->request().body.size(), max_json_bytes_)));
  }
  StatusOr<InferRequest> request =
      ParseGenerateRequest(exchange->request().body, (*model)->config());
  if (!request.ok()) return exchange->Send(ErrorResponse(request.status()));
  request->model_name = name;
  request->model_version = version;
  request->single_response = !stream;
  InferCall::ResponseFn on_response;
  if (stream) {
    auto job = std::make_shared<EventJob>(
        EventJob{.exchange = exchange, .model = *model, .model_name = name});
    on_response = [job](InferCall& from, InferResponse&& response) {
      job->OnResponse(from.request(), response);
    };
  } else {
    auto responses = std::make_shared<SingleResponse>();
    on_response = [exchange, responses, model = *model, name](InferCall& from,
                                                              InferResponse&& response) {
      if (!responses->Add(std::move(response))) return;
      const StatusOr<InferResponse> result =
          responses->Result(false, "generate expects model to produce exactly 1 response");
      if (!result.ok()) return exchange->Send(ErrorResponse(result.status()));
      StatusOr<std::string> json =
          GenerateReply(*result, from.request().id, name, model->version());
      exchange->Send(json.ok() ? JsonResponse(std::move(*json)) : ErrorResponse(json.status()));
    };
  }
  const auto call = core_.Infer(*model, std::move(*request), std::move(on_response));
  if (!call.ok()) return exchange->Send(ErrorResponse(call.status()));
  CancelWithClient(*exchange, *call);
}

}  // namespace trireme::server
