// SPDX-License-Identifier: Apache-2.0
#include "server/server.h"

#include <algorithm>
#include <atomic>
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "base/status.h"
#include "base/version.h"
#include "server/error_reply.h"
#include "server/llm/llm_model.h"
#include "server/metrics/registry.h"

namespace trireme::server {
namespace {

// "/v2/models/a/versions/1/ready" -> {"v2", "models", "a", "versions", "1", "ready"}
std::vector<std::string> Segments(const std::string& path) {
  std::vector<std::string> segments;
  size_t begin = 1;
  while (begin <= path.size()) {
    const size_t end = std::min(path.find('/', begin), path.size());
    segments.push_back(path.substr(begin, end - begin));
    begin = end + 1;
  }
  return segments;
}

class ServerImpl : public Server {
 public:
  ServerImpl(const ServerConfig& config, std::unique_ptr<Generator> generator)
      : config_(config), model_(config.model_name, std::move(generator), registry_) {}
  ~ServerImpl() override { Shutdown(std::chrono::milliseconds(0)); }

  Status Listen() {
    if (config_.allow_metrics) {
      TRIREME_ASSIGN_OR_RETURN(
          metrics_server_,
          HttpServer::Start(config_.metrics, [this](std::shared_ptr<HttpExchange> exchange) {
            HandleMetrics(*exchange);
          }));
    }
    TRIREME_ASSIGN_OR_RETURN(
        http_server_,
        HttpServer::Start(config_.http, [this](std::shared_ptr<HttpExchange> exchange) {
          Handle(std::move(exchange));
        }));
    LogInfo("Started HTTPService at {}:{}", config_.http.address, http_port());
    if (metrics_server_ != nullptr) {
      LogInfo("Started Metrics Service at {}:{}", config_.metrics.address, metrics_port());
    }
    return OkStatus();
  }

  int http_port() const override { return http_server_->port(); }
  int metrics_port() const override { return metrics_server_ ? metrics_server_->port() : 0; }

  void Shutdown(std::chrono::milliseconds drain) override {
    if (exiting_.exchange(true)) return;
    const auto deadline = std::chrono::steady_clock::now() + drain;
    model_.Shutdown(drain);
    const auto left = std::max(std::chrono::milliseconds(200),
                               std::chrono::duration_cast<std::chrono::milliseconds>(
                                   deadline - std::chrono::steady_clock::now()));
    if (http_server_ != nullptr) http_server_->Stop(left);
    if (metrics_server_ != nullptr) metrics_server_->Stop(std::chrono::milliseconds(200));
  }

 private:
  using Exchange = std::shared_ptr<HttpExchange>;

  void HandleMetrics(HttpExchange& exchange) {
    HttpResponse response;
    const std::string& path = exchange.request().path;
    if (path == "/metrics" || path == "/metrics/") {
      response.content_type = "text/plain; charset=utf-8";
      response.body = registry_.Text();
    }
    exchange.Send(std::move(response));
  }

  void Handle(Exchange exchange) {
    if (exiting_.load()) return exchange->Send(ErrorResponse(503, "Server exiting"));
    const std::vector<std::string> path = Segments(exchange->request().path);
    if (path.empty() || path[0] != "v2") return NotFoundRoute(*exchange);
    if (path.size() == 1) return Get(*exchange, [this] { return ServerMetadata(); });
    if (path[1] == "health" && path.size() == 3) return HandleHealth(*exchange, path[2]);
    if (path[1] == "models" && path.size() >= 3) return HandleModel(std::move(exchange), path);
    NotFoundRoute(*exchange);
  }

  static void NotFoundRoute(HttpExchange& exchange) {
    exchange.Send(ErrorResponse(404, "Not Found"));
  }

  template <typename Make>
  static void Get(HttpExchange& exchange, Make make) {
    const std::string& method = exchange.request().method;
    if (method != "GET" && method != "HEAD") {
      return exchange.Send(ErrorResponse(405, "Method Not Allowed"));
    }
    exchange.Send(make());
  }

  void HandleHealth(HttpExchange& exchange, const std::string& what) {
    if (what != "live" && what != "ready") return NotFoundRoute(exchange);
    Get(exchange, [&] {
      HttpResponse response;
      response.status = what == "live" || model_.ready() ? 200 : 400;
      return response;
    });
  }

  HttpResponse ServerMetadata() const {
    const nlohmann::ordered_json metadata = {{"name", config_.id},
                                             {"version", std::string(Version())},
                                             {"extensions", {"parameters", "generate"}}};
    return JsonResponse(metadata.dump());
  }

  bool IsModel(const std::string& name) const {
    return name == config_.model_name ||
           std::find(config_.aliases.begin(), config_.aliases.end(), name) != config_.aliases.end();
  }

  // /v2/models/NAME[/versions/V][/ACTION]
  void HandleModel(Exchange exchange, const std::vector<std::string>& path) {
    const std::string& name = path[2];
    size_t at = 3;
    if (!IsModel(name)) {
      return exchange->Send(
          ErrorResponse(404, "Request for unknown model: '" + name + "' is not found"));
    }
    if (path.size() > 4 && path[3] == "versions") {
      if (path[4] != "1") {
        return exchange->Send(ErrorResponse(
            404, "Request for unknown model: '" + name + "' version " + path[4] + " is not found"));
      }
      at = 5;
    }
    if (path.size() == at) {
      return Get(*exchange, [&] { return JsonResponse(model_.MetadataJson(name)); });
    }
    if (path.size() != at + 1) return NotFoundRoute(*exchange);
    const std::string& action = path[at];
    if (action == "ready") {
      return Get(*exchange, [&] {
        HttpResponse response;
        response.status = model_.ready() ? 200 : 400;
        return response;
      });
    }
    if (action != "generate" && action != "generate_stream") return NotFoundRoute(*exchange);
    if (exchange->request().method != "POST") {
      return exchange->Send(ErrorResponse(405, "Method Not Allowed"));
    }
    if (action == "generate") return model_.Generate(exchange, name);
    model_.GenerateStream(exchange, name);
  }

  const ServerConfig config_;
  MetricsRegistry registry_;
  LlmModel model_;
  std::atomic<bool> exiting_{false};
  std::unique_ptr<HttpServer> metrics_server_;
  std::unique_ptr<HttpServer> http_server_;
};

}  // namespace

StatusOr<std::unique_ptr<Server>> Server::Start(const ServerConfig& config,
                                                std::unique_ptr<Generator> generator) {
  auto server = std::make_unique<ServerImpl>(config, std::move(generator));
  TRIREME_RETURN_IF_ERROR(server->Listen());
  return std::unique_ptr<Server>(std::move(server));
}

}  // namespace trireme::server
