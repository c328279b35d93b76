// SPDX-License-Identifier: Apache-2.0
// KServe v2 with Triton's extensions over gRPC, on the same core as HTTP. Thread-safe.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "server/core/server_core.h"
#include "server/core/shared_memory.h"

namespace trireme::server {

struct GrpcServerConfig {
  std::string address = "0.0.0.0";
  int port = 8001;  // 0: any free one
  int keepalive_time_ms = 7200000;
  int keepalive_timeout_ms = 20000;
  bool keepalive_permit_without_calls = false;
  int http2_max_pings_without_data = 2;
  int http2_min_recv_ping_interval_without_data_ms = 300000;
  int http2_max_ping_strikes = 2;
};

class GrpcServer {
 public:
  // ALREADY_EXISTS names the port when another program has it.
  static StatusOr<std::unique_ptr<GrpcServer>> Start(const GrpcServerConfig& config,
                                                     ServerCore& core, SharedMemory& shared_memory);
  virtual ~GrpcServer() = default;

  virtual int port() const = 0;
  // Accepts nothing new, waits up to `drain` for open calls, cancels the rest.
  virtual void Stop(std::chrono::milliseconds drain) = 0;
};

}  // namespace trireme::server
