// SPDX-License-Identifier: Apache-2.0
// Server: one text model over KServe v2 HTTP with the generate extension, and metrics. Thread-safe.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "server/frontends/http_server.h"
#include "trireme/generator.h"

namespace trireme::server {

struct ServerConfig {
  HttpServerConfig http;
  HttpServerConfig metrics;
  bool allow_metrics = true;
  std::string id = "triton";  // server metadata's name
  std::string model_name = "model";
  // Further names the model answers to.
  std::vector<std::string> aliases = {"ensemble", "tensorrt_llm_bls", "tensorrt_llm"};
};

class Server {
 public:
  static StatusOr<std::unique_ptr<Server>> Start(const ServerConfig& config,
                                                 std::unique_ptr<Generator> generator);
  virtual ~Server() = default;

  virtual int http_port() const = 0;
  virtual int metrics_port() const = 0;  // 0 without metrics

  // Turns new requests away with 503, lets running ones end within `drain`, then closes.
  virtual void Shutdown(std::chrono::milliseconds drain) = 0;
};

}  // namespace trireme::server
