// SPDX-License-Identifier: Apache-2.0
#include "server/repository/model_config.h"

#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>
#include <google/protobuf/util/json_util.h>

#include "base/status.h"
#include "model_config.pb.h"
#include "server/repository/config_json.h"
#include "server/repository/placeholders.h"
#include "server/repository/read_scheduling.h"

namespace trireme::server {
namespace {

namespace pb = google::protobuf;

// Keeps the first complaint of the parser.
class FirstError : public pb::io::ErrorCollector {
 public:
  void AddError(int line, pb::io::ColumnNumber column, const std::string& message) override {
    if (text_.empty()) text_ = fmt::format("line {}, column {}: {}", line + 1, column + 1, message);
  }
  void AddWarning(int, pb::io::ColumnNumber, const std::string&) override {}
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

template <typename Message>
TensorConfig ToTensor(const Message& from) {
  TensorConfig tensor;
  tensor.name = from.name();
  tensor.type = static_cast<DataType>(from.data_type());
  tensor.dims.assign(from.dims().begin(), from.dims().end());
  if (from.has_reshape()) {
    tensor.reshape.emplace(from.reshape().shape().begin(), from.reshape().shape().end());
  }
  tensor.is_shape_tensor = from.is_shape_tensor();
  return tensor;
}

VersionPolicy ToVersionPolicy(const inference::ModelVersionPolicy& from) {
  VersionPolicy policy;
  if (from.has_all()) policy.kind = VersionPolicy::Kind::kAll;
  if (from.has_latest()) {
    policy.num_latest = std::max(1, static_cast<int>(from.latest().num_versions()));
  }
  if (from.has_specific()) {
    policy.kind = VersionPolicy::Kind::kSpecific;
    policy.versions.assign(from.specific().versions().begin(), from.specific().versions().end());
  }
  return policy;
}

QueuePolicy ToQueuePolicy(const inference::ModelQueuePolicy& from) {
  return {.delay_on_timeout = from.timeout_action() == inference::ModelQueuePolicy::DELAY,
          .default_timeout_us = from.default_timeout_microseconds(),
          .allow_timeout_override = from.allow_timeout_override(),
          .max_queue_size = from.max_queue_size()};
}

DynamicBatching ToDynamicBatching(const inference::ModelDynamicBatching& from) {
  DynamicBatching batching;
  batching.preferred_batch_sizes.assign(from.preferred_batch_size().begin(),
                                        from.preferred_batch_size().end());
  batching.max_queue_delay_us = from.max_queue_delay_microseconds();
  batching.preserve_ordering = from.preserve_ordering();
  batching.priority_levels = from.priority_levels();
  batching.default_priority_level = from.default_priority_level();
  batching.default_queue_policy = ToQueuePolicy(from.default_queue_policy());
  for (const auto& [level, policy] : from.priority_queue_policy()) {
    batching.priority_queue_policy[level] = ToQueuePolicy(policy);
  }
  return batching;
}

void ReadEnsemble(const inference::ModelEnsembling& from, ModelConfig& config) {
  config.max_inflight_requests = from.max_inflight_requests();
  for (const auto& step : from.step()) {
    EnsembleStep& to = config.ensemble_steps.emplace_back();
    to.model_name = step.model_name();
    // proto3 cannot tell 0 from unset, and there is no version 0.
    to.model_version = step.model_version() == 0 ? -1 : step.model_version();
    to.input_map.insert(step.input_map().begin(), step.input_map().end());
    to.output_map.insert(step.output_map().begin(), step.output_map().end());
    if (!step.model_namespace().empty()) {
      config.unsupported.push_back("ensemble_scheduling.step.model_namespace");
    }
  }
}

void ReadInstanceGroups(const inference::ModelConfig& from, ModelConfig& config) {
  for (const auto& group : from.instance_group()) {
    InstanceGroup& to = config.instance_groups.emplace_back();
    to.name = group.name();
    to.kind = static_cast<InstanceGroup::Kind>(group.kind());
    to.count = group.count() == 0 ? 1 : group.count();
    to.gpus.assign(group.gpus().begin(), group.gpus().end());
    to.passive = group.passive();
    if (group.has_rate_limiter()) {
      config.without_effect.push_back("instance_group.rate_limiter (--rate-limit is off)");
    }
    if (!group.profile().empty()) config.without_effect.push_back("instance_group.profile");
    if (!group.host_policy().empty()) config.without_effect.push_back("instance_group.host_policy");
    if (!group.secondary_devices().empty()) {
      config.unsupported.push_back("instance_group.secondary_devices");
    }
  }
}

// Fields that every kind of model either ignores with a reason or cannot have yet.
void ReadRest(const inference::ModelConfig& from, ModelConfig& config) {
  // A backend that joins requests into one tensor makes and cuts these; the others get each request.
  const bool joins = config.backend == "onnxruntime" || config.platform == "onnxruntime_onnx";
  if (!from.batch_input().empty() && !joins) config.unsupported.push_back("batch_input");
  if (!from.batch_output().empty() && !joins) config.unsupported.push_back("batch_output");
  if (from.has_model_operations()) config.unsupported.push_back("model_operations");
  if (from.has_model_repository_agents()) config.unsupported.push_back("model_repository_agents");
  config.response_cache = from.response_cache().enable();
  if (!from.model_metrics().metric_control().empty()) {
    config.unsupported.push_back("model_metrics.metric_control");
  }
  if (from.has_optimization()) {
    config.without_effect.push_back("optimization (engines are tuned when they are built)");
  }
  if (!from.runtime().empty()) config.without_effect.push_back("runtime");
  if (!from.cc_model_filenames().empty()) config.without_effect.push_back("cc_model_filenames");
}

Status FromProto(const inference::ModelConfig& from, ModelConfig& config) {
  config.name = from.name();
  config.platform = from.platform();
  config.backend = from.backend();
  // The template's own key for the one backend it was written for.
  if (config.backend == "${triton_backend}") config.backend = "tensorrtllm";
  if (HasPlaceholder(config.backend)) config.backend.clear();
  config.runtime = from.runtime();
  config.version_policy = ToVersionPolicy(from.version_policy());
  config.max_batch_size = from.max_batch_size();
  for (const auto& input : from.input()) {
    TensorConfig tensor = ToTensor(input);
    tensor.optional = input.optional();
    tensor.allow_ragged_batch = input.allow_ragged_batch();
    if (input.format() != inference::ModelInput::FORMAT_NONE) {
      config.without_effect.push_back("input.format");
    }
    if (input.is_non_linear_format_io()) {
      config.unsupported.push_back("input.is_non_linear_format_io");
    }
    config.inputs.push_back(std::move(tensor));
  }
  for (const auto& output : from.output()) {
    TensorConfig tensor = ToTensor(output);
    tensor.label_filename = output.label_filename();
    if (output.is_non_linear_format_io()) {
      config.unsupported.push_back("output.is_non_linear_format_io");
    }
    // Upstream's ensemble template lists one output twice.
    if (config.FindOutput(tensor.name) == nullptr) config.outputs.push_back(std::move(tensor));
  }
  config.default_model_filename = from.default_model_filename();
  config.metric_tags.insert(from.metric_tags().begin(), from.metric_tags().end());
  for (const auto& [key, parameter] : from.parameters()) {
    if (!HasPlaceholder(parameter.string_value())) {
      config.parameters[key] = parameter.string_value();
    }
  }
  if (from.has_dynamic_batching()) {
    config.dynamic_batching = ToDynamicBatching(from.dynamic_batching());
  }
  if (from.has_sequence_batching()) {
    TRIREME_RETURN_IF_ERROR(ReadSequenceBatching(from.sequence_batching(), config));
  }
  ReadWarmup(from, config);
  if (from.has_ensemble_scheduling()) ReadEnsemble(from.ensemble_scheduling(), config);
  config.decoupled = from.model_transaction_policy().decoupled();
  ReadInstanceGroups(from, config);
  ReadRest(from, config);
  config.wire = from.SerializeAsString();
  config.json = ConfigJson(from);
  return OkStatus();
}

template <typename Message>
void FillTensor(const TensorConfig& from, Message& to) {
  to.set_name(from.name);
  to.set_data_type(static_cast<inference::DataType>(from.type));
  for (const int64_t dim : from.dims) to.add_dims(dim);
  if (!from.reshape) return;
  to.mutable_reshape();
  for (const int64_t dim : *from.reshape) to.mutable_reshape()->add_shape(dim);
}

}  // namespace

StatusOr<ModelConfig> ParseModelConfig(std::string_view text, std::string_view where,
                                       std::vector<std::string>& warnings) {
  const std::string clean = RemovePlaceholders(text, warnings);
  inference::ModelConfig parsed;
  FirstError error;
  pb::TextFormat::Parser parser;
  parser.RecordErrorsTo(&error);
  parser.AllowPartialMessage(true);
  parser.SetRecursionLimit(64);
  if (!parser.ParseFromString(clean, &parsed)) {
    return InvalidArgument("{}: {}", where, error.text());
  }
  ModelConfig config;
  TRIREME_RETURN_IF_ERROR(FromProto(parsed, config));
  return config;
}

StatusOr<ModelConfig> ParseModelConfigJson(std::string_view json) {
  inference::ModelConfig parsed;
  const auto status = pb::util::JsonStringToMessage({json.data(), json.size()}, &parsed,
                                                    pb::util::JsonParseOptions());
  if (!status.ok()) {
    return InvalidArgument("model configuration override: {}",
                           std::string(status.message().data(), status.message().size()));
  }
  ModelConfig config;
  TRIREME_RETURN_IF_ERROR(FromProto(parsed, config));
  return config;
}

Status StoreCompletion(ModelConfig& config) {
  inference::ModelConfig to;
  if (!to.ParseFromString(config.wire)) return Internal("configuration does not parse again");
  to.set_name(config.name);
  to.set_backend(config.backend);
  to.set_platform(config.platform);
  to.set_max_batch_size(config.max_batch_size);
  if (!config.default_model_filename.empty()) {
    to.set_default_model_filename(config.default_model_filename);
  }
  if (config.version_policy.kind == VersionPolicy::Kind::kLatest) {
    to.mutable_version_policy()->mutable_latest()->set_num_versions(
        static_cast<uint32_t>(config.version_policy.num_latest));
  }
  if (to.input().empty()) {
    for (const TensorConfig& input : config.inputs) {
      auto& added = *to.add_input();
      FillTensor(input, added);
      added.set_optional(input.optional);
      added.set_allow_ragged_batch(input.allow_ragged_batch);
    }
  }
  if (to.output().empty()) {
    for (const TensorConfig& output : config.outputs) FillTensor(output, *to.add_output());
  }
  if (config.decoupled) to.mutable_model_transaction_policy()->set_decoupled(true);
  to.clear_instance_group();
  for (const InstanceGroup& group : config.instance_groups) {
    auto& added = *to.add_instance_group();
    added.set_name(group.name);
    added.set_kind(static_cast<inference::ModelInstanceGroup::Kind>(group.kind));
    added.set_count(group.count);
    added.set_passive(group.passive);
    for (const int gpu : group.gpus) added.add_gpus(gpu);
  }
  if (config.dynamic_batching && to.has_dynamic_batching()) {
    auto& batching = *to.mutable_dynamic_batching();
    batching.clear_preferred_batch_size();
    for (const int size : config.dynamic_batching->preferred_batch_sizes) {
      batching.add_preferred_batch_size(size);
    }
  }
  config.wire = to.SerializeAsString();
  config.json = ConfigJson(to);
  return OkStatus();
}

}  // namespace trireme::server
