// SPDX-License-Identifier: Apache-2.0
// Server: models behind KServe v2 and metrics, from ports to shutdown. Thread-safe.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "server/backends/llm/llm_backend.h"
#include "server/core/server_core.h"
#include "server/frontends/grpc/grpc_server.h"
#include "server/frontends/http_server.h"
#include "trireme/generator.h"

namespace trireme::server {

struct ServerConfig {
  bool allow_http = true;
  HttpServerConfig http;
  bool allow_grpc = true;  // without effect in a build without gRPC
  GrpcServerConfig grpc;
  bool allow_metrics = true;
  HttpServerConfig metrics;
  CoreOptions core;
  LlmBackendOptions llm;  // of the repository's text models
  bool allow_client_shm = false;
  // Of the generator a server is started with, if any: the names it answers to.
  std::vector<std::string> model_names = {"model", "ensemble", "tensorrt_llm_bls", "tensorrt_llm"};
};

class Server {
 public:
  // Opens the ports, then loads the repository's models, which WaitUntilLoaded waits for.
  // `generator` (may be null) is served as one text model.
  static StatusOr<std::unique_ptr<Server>> Start(const ServerConfig& config,
                                                 std::unique_ptr<Generator> generator);
  virtual ~Server() = default;

  // The first failure to load a model; the others are served all the same.
  virtual Status WaitUntilLoaded() = 0;

  virtual int http_port() const = 0;     // 0 without HTTP
  virtual int grpc_port() const = 0;     // 0 without gRPC
  virtual int metrics_port() const = 0;  // 0 without metrics
  virtual ServerCore& core() = 0;

  // Turns new requests away with 503, lets running ones end within `drain`, then closes.
  virtual void Shutdown(std::chrono::milliseconds drain) = 0;
};

}  // namespace trireme::server
