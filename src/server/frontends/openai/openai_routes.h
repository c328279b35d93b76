// SPDX-License-Identifier: Apache-2.0
// OpenAI's routes over the text models of the core: models, completions, chat. Thread-safe.
#pragma once

#include <memory>
#include <random>
#include <string>
#include <string_view>

#include "base/mutex.h"
#include "server/core/server_core.h"
#include "server/frontends/http_server.h"
#include "server/frontends/openai/openai_request.h"

namespace trireme::server {

class OpenAiRoutes {
 public:
  OpenAiRoutes(ServerCore& core, int64_t max_json_bytes);

  // Whether the path is one of ours: /v1 and below.
  static bool Takes(std::string_view path);
  // To a body over the limit.
  static HttpResponse LargeBodyReply(int64_t limit_bytes);
  // Answers the exchange, now or later.
  void Handle(const std::shared_ptr<HttpExchange>& exchange);

 private:
  using Exchange = std::shared_ptr<HttpExchange>;

  void ListModels(HttpExchange& exchange) const;
  void ShowModel(HttpExchange& exchange, const std::string& name) const;
  void Generate(const Exchange& exchange, OpenAiKind kind);
  // The model of that name, which generates text; NOT_FOUND says what there is.
  StatusOr<std::shared_ptr<Model>> FindTextModel(const std::string& name) const;
  uint64_t RandomBits();

  ServerCore& core_;
  const int64_t max_json_bytes_;
  const int64_t created_;  // seconds since the Unix epoch
  Mutex mutex_;
  std::mt19937_64 random_ GUARDED_BY(mutex_);
};

}  // namespace trireme::server
