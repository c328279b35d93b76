// SPDX-License-Identifier: Apache-2.0
// LlmModel: a text model behind the generate extension, with its metrics. Thread-safe.
#pragma once

#include <memory>
#include <string>

#include "server/frontends/http_server.h"
#include "server/metrics/registry.h"
#include "trireme/generator.h"

namespace trireme::server {

class LlmModel {
 public:
  // `registry` must outlive the model.
  LlmModel(std::string name, std::unique_ptr<Generator> generator, MetricsRegistry& registry);
  ~LlmModel();

  const std::string& name() const { return name_; }
  bool ready() const;

  // Metadata as KServe v2 gives it, for the model under one of its names.
  std::string MetadataJson(const std::string& name) const;

  // POST .../generate and .../generate_stream, under `name`.
  void Generate(const std::shared_ptr<HttpExchange>& exchange, const std::string& name);
  void GenerateStream(const std::shared_ptr<HttpExchange>& exchange, const std::string& name);

  // Takes no new request and waits up to `drain` for the running ones.
  void Shutdown(std::chrono::milliseconds drain);

 private:
  struct Metrics;
  class Call;

  void Start(std::shared_ptr<Call> call);

  const std::string name_;
  std::unique_ptr<Metrics> metrics_;
  std::unique_ptr<Generator> generator_;
};

}  // namespace trireme::server
