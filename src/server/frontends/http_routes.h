// SPDX-License-Identifier: Apache-2.0
// KServe v2 with Triton's extensions over HTTP: from an exchange to the core and back. Thread-safe.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "server/core/server_core.h"
#include "server/core/shared_memory.h"
#include "server/frontends/http_server.h"

namespace trireme::server {

class HttpRoutes {
 public:
  HttpRoutes(ServerCore& core, SharedMemory& shared_memory, int64_t max_json_bytes)
      : core_(core), shared_memory_(shared_memory), max_json_bytes_(max_json_bytes) {}

  // Answers the exchange, now or later.
  void Handle(const std::shared_ptr<HttpExchange>& exchange);

 private:
  using Exchange = std::shared_ptr<HttpExchange>;
  using Path = std::vector<std::string>;  // {"v2", "models", "m", "infer"}

  // /v2/models/NAME[/versions/V][/ACTION]
  void HandleModel(const Exchange& exchange, const Path& path);
  void HandleModelGet(const Exchange& exchange, const std::string& name, int64_t version,
                      const std::string& action);
  void HandleHealth(const Exchange& exchange, const std::string& what);
  // /v2/repository[/REPOSITORY]/index and .../models/NAME/(load|unload)
  void HandleRepository(const Exchange& exchange, const Path& path);
  void HandleIndex(const Exchange& exchange);
  void HandleLoad(const Exchange& exchange, const std::string& name);
  void HandleUnload(const Exchange& exchange, const std::string& name);
  // /v2/systemsharedmemory[/region/NAME]/(status|register|unregister), /v2/cudasharedmemory...
  void HandleSharedMemory(const Exchange& exchange, const Path& path);
  void HandleLogging(const Exchange& exchange);
  void HandleTrace(const Exchange& exchange);

  void Infer(const Exchange& exchange, const std::string& name, int64_t version);
  void Generate(const Exchange& exchange, const std::string& name, int64_t version, bool stream);

  ServerCore& core_;
  SharedMemory& shared_memory_;
  const int64_t max_json_bytes_;
};

}  // namespace trireme::server
