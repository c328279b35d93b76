// SPDX-License-Identifier: Apache-2.0
#include "server/core/server_core.h"

#include <nlohmann/json.hpp>

#include "base/status.h"
#include "base/version.h"
#include "server/core/json_text.h"

namespace trireme::server {
namespace {

Json TensorList(const ModelConfig& config, const std::vector<TensorConfig>& tensors) {
  Json list = Json::array();
  for (const TensorConfig& tensor : tensors) {
    list.push_back({{"name", tensor.name},
                    {"datatype", DataTypeName(tensor.type)},
                    {"shape", config.FullDims(tensor)}});
  }
  return list;
}

Json DurationJson(const StatDuration& duration) {
  return {{"count", duration.count}, {"ns", duration.ns}};
}

Json InferStatsJson(const InferStats& stats) {
  return {{"success", DurationJson(stats.success)},
          {"fail", DurationJson(stats.fail)},
          {"queue", DurationJson(stats.queue)},
          {"compute_input", DurationJson(stats.compute_input)},
          {"compute_infer", DurationJson(stats.compute_infer)},
          {"compute_output", DurationJson(stats.compute_output)},
          {"cache_hit", DurationJson(stats.cache_hit)},
          {"cache_miss", DurationJson(stats.cache_miss)}};
}

Json ResponseStatsJson(const std::map<int, ResponseStats>& responses) {
  Json object = Json::object();
  for (const auto& [index, stats] : responses) {
    object[std::to_string(index)] = {{"compute_infer", DurationJson(stats.compute_infer)},
                                     {"compute_output", DurationJson(stats.compute_output)},
                                     {"success", DurationJson(stats.success)},
                                     {"fail", DurationJson(stats.fail)},
                                     {"empty_response", DurationJson(stats.empty_response)},
                                     {"cancel", DurationJson(stats.cancel)}};
  }
  return object;
}

Json BatchStatsJson(const std::map<uint64_t, BatchStats>& batches) {
  Json list = Json::array();
  for (const auto& [size, stats] : batches) {
    list.push_back({{"batch_size", size},
                    {"compute_input", DurationJson(stats.compute_input)},
                    {"compute_infer", DurationJson(stats.compute_infer)},
                    {"compute_output", DurationJson(stats.compute_output)}});
  }
  return list;
}

Json StatisticsOf(const Model& model, const std::string& name) {
  const StatisticsSnapshot stats = model.Statistics();
  return {{"name", name},
          {"version", std::to_string(model.version())},
          {"last_inference", stats.last_inference_ms},
          {"inference_count", stats.inference_count},
          {"execution_count", stats.execution_count},
          {"inference_stats", InferStatsJson(stats.infer)},
          {"response_stats", ResponseStatsJson(stats.responses)},
          {"batch_stats", BatchStatsJson(stats.batches)},
          {"memory_usage", Json::array()}};
}

}  // namespace

ServerCore::ServerCore(CoreOptions options)
    : options_(std::move(options)), repository_(options_.repository, metrics_, *this) {}

const std::vector<std::string>& ServerCore::Extensions() {
  static const auto* names = new std::vector<std::string>{
      "classification",  "model_repository",    "model_repository(unload_dependents)",
      "schedule_policy", "model_configuration", "binary_tensor_data",
      "parameters",      "statistics",          "generate",
      "logging"};
  return *names;
}

StatusOr<std::shared_ptr<Model>> ServerCore::FindModel(const std::string& name,
                                                       int64_t version) const {
  return repository_.Find(name, version);
}

StatusOr<std::shared_ptr<InferCall>> ServerCore::Infer(InferRequest request,
                                                       InferCall::ResponseFn on_response) {
  TRIREME_ASSIGN_OR_RETURN(const std::shared_ptr<Model> model,
                           FindModel(request.model_name, request.model_version));
  return Infer(model, std::move(request), std::move(on_response));
}

StatusOr<std::shared_ptr<InferCall>> ServerCore::Infer(const std::shared_ptr<Model>& model,
                                                       InferRequest request,
                                                       InferCall::ResponseFn on_response) {
  TRIREME_RETURN_IF_ERROR(model->Validate(request));
  auto call = std::make_shared<InferCall>(std::move(request), std::move(on_response));
  model->Infer(call);
  return call;
}

std::string ServerCore::ServerMetadataJson() const {
  const Json metadata = {
      {"name", options_.id}, {"version", std::string(Version())}, {"extensions", Extensions()}};
  return metadata.dump();
}

StatusOr<std::string> ServerCore::ModelMetadataJson(const std::string& name,
                                                    int64_t version) const {
  TRIREME_ASSIGN_OR_RETURN(const std::shared_ptr<Model> model, FindModel(name, version));
  const ModelConfig& config = model->config();
  Json versions = Json::array();
  if (version > 0) {
    versions.push_back(std::to_string(version));
  } else {
    for (const int64_t ready : repository_.ReadyVersions(name)) {
      versions.push_back(std::to_string(ready));
    }
  }
  const Json metadata = {{"name", name},
                         {"versions", versions},
                         {"platform", config.platform.empty() ? config.backend : config.platform},
                         {"inputs", TensorList(config, config.inputs)},
                         {"outputs", TensorList(config, config.outputs)}};
  return metadata.dump();
}

StatusOr<std::string> ServerCore::ModelConfigJson(const std::string& name, int64_t version) const {
  TRIREME_ASSIGN_OR_RETURN(const std::shared_ptr<Model> model, FindModel(name, version));
  return model->config().json;
}

StatusOr<std::vector<std::shared_ptr<Model>>> ServerCore::ModelsFor(const std::string& name,
                                                                    int64_t version) const {
  if (name.empty()) return repository_.ReadyModels();
  const StatusOr<std::shared_ptr<Model>> model = FindModel(name, version);
  if (!model.ok()) return InvalidArgument("requested model '{}' is not available", name);
  if (version > 0) return std::vector<std::shared_ptr<Model>>{*model};
  std::vector<std::shared_ptr<Model>> models;
  for (const int64_t ready : repository_.ReadyVersions(name)) {
    if (auto found = FindModel(name, ready); found.ok()) models.push_back(std::move(*found));
  }
  return models;
}

StatusOr<std::string> ServerCore::StatisticsJson(const std::string& name, int64_t version) const {
  TRIREME_ASSIGN_OR_RETURN(const auto models, ModelsFor(name, version));
  Json list = Json::array();
  for (const auto& model : models) {
    list.push_back(StatisticsOf(*model, name.empty() ? model->config().name : name));
  }
  return Json{{"model_stats", list}}.dump();
}

std::string ServerCore::IndexJson(bool ready_only) const {
  Json list = Json::array();
  for (const IndexEntry& entry : repository_.Index(ready_only)) {
    Json row = {{"name", entry.name}};
    if (entry.version > 0) row["version"] = std::to_string(entry.version);
    if (!entry.state.empty()) row["state"] = entry.state;
    if (!entry.reason.empty()) row["reason"] = entry.reason;
    list.push_back(row);
  }
  return list.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Status ServerCore::ModelReady(const std::string& name, int64_t version) const {
  const StatusOr<std::shared_ptr<Model>> model = FindModel(name, version);
  if (!model.ok()) {
    if (!repository_.Knows(name)) return model.status();
    return FailedPrecondition("Model version not ready");
  }
  return (*model)->ready() ? OkStatus() : FailedPrecondition("Model version not ready");
}

}  // namespace trireme::server
