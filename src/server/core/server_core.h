// SPDX-License-Identifier: Apache-2.0
// What all frontends share: the models, the metrics, and the way a request takes to a model.
// Thread-safe.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "server/repository/repository.h"

namespace trireme::server {

struct CoreOptions {
  std::string id = "triton";  // the server's name in its metadata
  RepositoryOptions repository;
};

class ServerCore : public ModelCaller {
 public:
  explicit ServerCore(CoreOptions options);

  const std::string& id() const { return options_.id; }
  static const std::vector<std::string>& Extensions();
  Repository& repository() { return repository_; }
  MetricsRegistry& metrics() { return metrics_; }

  StatusOr<std::shared_ptr<Model>> FindModel(const std::string& name,
                                             int64_t version) const override;
  StatusOr<std::shared_ptr<InferCall>> Infer(InferRequest request,
                                             InferCall::ResponseFn on_response) override;
  // The same for a model already found.
  StatusOr<std::shared_ptr<InferCall>> Infer(const std::shared_ptr<Model>& model,
                                             InferRequest request,
                                             InferCall::ResponseFn on_response);

  // {"name": ..., "versions": ...}; `name` is the one the client used.
  std::string ServerMetadataJson() const;
  StatusOr<std::string> ModelMetadataJson(const std::string& name, int64_t version) const;
  StatusOr<std::string> ModelConfigJson(const std::string& name, int64_t version) const;
  // Of one model or, with an empty name, of all that are ready.
  StatusOr<std::string> StatisticsJson(const std::string& name, int64_t version) const;
  std::string IndexJson(bool ready_only) const;

  // OK, or why the model does not answer: NOT_FOUND when nobody knows it.
  Status ModelReady(const std::string& name, int64_t version) const;
  // The models whose statistics the request asks for; UNAVAILABLE models are INVALID_ARGUMENT.
  StatusOr<std::vector<std::shared_ptr<Model>>> ModelsFor(const std::string& name,
                                                          int64_t version) const;

  // From now on every new request is refused.
  void StopAccepting() { exiting_.store(true); }
  bool exiting() const { return exiting_.load(); }

 private:
  const CoreOptions options_;
  std::atomic<bool> exiting_{false};
  MetricsRegistry metrics_;
  Repository repository_;
};

}  // namespace trireme::server
