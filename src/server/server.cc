// SPDX-License-Identifier: Apache-2.0
#include "server/server.h"

#include <algorithm>

#include "base/log.h"
#include "base/status.h"
#include "server/backends/llm/llm_backend.h"
#include "server/error_reply.h"
#include "server/frontends/http_routes.h"
#include "server/frontends/openai/openai_routes.h"

namespace trireme::server {
namespace {

// The size limit is for JSON; binary tensors behind it may be larger.
ServerConfig WithLargeBodies(ServerConfig config) {
  config.http.large_body_header = "Inference-Header-Content-Length";
  config.http.large_body_reply = [](std::string_view path, int64_t limit_bytes) {
    if (OpenAiRoutes::Takes(path)) return OpenAiRoutes::LargeBodyReply(limit_bytes);
    // 400, where 413 would say more, because Triton's clients look for it.
    return ErrorResponse(
        400, fmt::format("request body exceeds the maximum allowed input size of {} bytes",
                         limit_bytes));
  };
  return config;
}

class ServerImpl : public Server {
 public:
  explicit ServerImpl(const ServerConfig& config)
      : config_(WithLargeBodies(config)),
        core_(config.core),
        shared_memory_(config.allow_client_shm),
        routes_(core_, shared_memory_, config.http.max_body_bytes),
        openai_(core_, config.http.max_body_bytes) {
    const auto llm = MakeLlmBackend(config.llm);
    for (const char* name : {"llm", "tensorrtllm", "vllm"}) {
      core_.repository().backends().Add(name, llm);
    }
  }
  ~ServerImpl() override { Shutdown(std::chrono::milliseconds(0)); }

  Status AddTextModel(std::unique_ptr<Generator> generator) {
    std::vector<std::string> warnings;
    TRIREME_ASSIGN_OR_RETURN(ModelConfig model, ParseModelConfig("", "", warnings));
    model.name = config_.model_names.front();
    model.backend = "llm";
    return core_.repository().Add(config_.model_names, std::move(model),
                                  MakeLlmBackend(std::shared_ptr<Generator>(std::move(generator))));
  }

  Status Listen() {
    TRIREME_RETURN_IF_ERROR(ListenGrpc());
    if (config_.allow_metrics) {
      TRIREME_ASSIGN_OR_RETURN(
          metrics_server_,
          HttpServer::Start(config_.metrics, [this](const std::shared_ptr<HttpExchange>& exchange) {
            HandleMetrics(*exchange);
          }));
    }
    if (config_.allow_http) {
      TRIREME_ASSIGN_OR_RETURN(
          http_server_,
          HttpServer::Start(config_.http, [this](const std::shared_ptr<HttpExchange>& exchange) {
            if (OpenAiRoutes::Takes(exchange->request().path)) return openai_.Handle(exchange);
            routes_.Handle(exchange);
          }));
      LogInfo("Started HTTPService at {}:{}", config_.http.address, http_port());
    }
    if (metrics_server_ != nullptr) {
      LogInfo("Started Metrics Service at {}:{}", config_.metrics.address, metrics_port());
    }
    core_.repository().Start();
    return OkStatus();
  }

  Status WaitUntilLoaded() override { return core_.repository().WaitUntilStarted(); }
  int http_port() const override { return http_server_ ? http_server_->port() : 0; }
  int grpc_port() const override { return grpc_server_ ? grpc_server_->port() : 0; }
  int metrics_port() const override { return metrics_server_ ? metrics_server_->port() : 0; }
  ServerCore& core() override { return core_; }

  void Shutdown(std::chrono::milliseconds drain) override {
    if (core_.exiting()) return;
    core_.StopAccepting();
    const auto deadline = std::chrono::steady_clock::now() + drain;
    core_.repository().Shutdown(drain.count());
    const auto left = std::max(std::chrono::milliseconds(200),
                               std::chrono::duration_cast<std::chrono::milliseconds>(
                                   deadline - std::chrono::steady_clock::now()));
    if (grpc_server_ != nullptr) grpc_server_->Stop(left);
    if (http_server_ != nullptr) http_server_->Stop(left);
    if (metrics_server_ != nullptr) metrics_server_->Stop(std::chrono::milliseconds(200));
  }

 private:
  Status ListenGrpc() {
    if (!config_.allow_grpc) return OkStatus();
#if defined(TRIREME_HAS_GRPC)
    TRIREME_ASSIGN_OR_RETURN(grpc_server_, GrpcServer::Start(config_.grpc, core_, shared_memory_));
#else
    LogInfo("grpc_absent reason=\"this build has no gRPC\"");
#endif
    return OkStatus();
  }

  void HandleMetrics(HttpExchange& exchange) {
    HttpResponse response;
    const std::string& path = exchange.request().path;
    if (path == "/metrics" || path == "/metrics/") {
      response.content_type = "text/plain; charset=utf-8";
      response.body = core_.metrics().Text();
    }
    exchange.Send(std::move(response));
  }

  const ServerConfig config_;
  ServerCore core_;
  SharedMemory shared_memory_;
  HttpRoutes routes_;
  OpenAiRoutes openai_;
  std::unique_ptr<GrpcServer> grpc_server_;
  std::unique_ptr<HttpServer> metrics_server_;
  std::unique_ptr<HttpServer> http_server_;
};

}  // namespace

StatusOr<std::unique_ptr<Server>> Server::Start(const ServerConfig& config,
                                                std::unique_ptr<Generator> generator) {
  auto server = std::make_unique<ServerImpl>(config);
  if (generator != nullptr) {
    TRIREME_RETURN_IF_ERROR(server->AddTextModel(std::move(generator)));
  }
  TRIREME_RETURN_IF_ERROR(server->Listen());
  return std::unique_ptr<Server>(std::move(server));
}

}  // namespace trireme::server
