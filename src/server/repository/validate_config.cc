// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <set>

#include "base/status.h"
#include "server/repository/model_config.h"

namespace trireme::server {
namespace {

Status CheckTensor(const TensorConfig& tensor, std::string_view kind, const ModelConfig& config) {
  const auto where = [&] {
    return fmt::format("model '{}', {} '{}'", config.name, kind, tensor.name);
  };
  if (tensor.name.empty()) {
    return InvalidArgument("model '{}': model {} must specify 'name'", config.name, kind);
  }
  if (tensor.type == DataType::kInvalid) {
    return InvalidArgument("{}: model {} must specify 'data_type'", where(), kind);
  }
  if (config.max_batch_size == 0 && tensor.dims.empty() && !config.is_ensemble()) {
    return InvalidArgument("{}: model {} must specify 'dims'", where(), kind);
  }
  for (const int64_t dim : tensor.dims) {
    if (dim == 0 || dim < -1) {
      return InvalidArgument(
          "{}: dimension must be integer >= 1, or -1 to indicate a "
          "variable-size dimension, not {}",
          where(), dim);
    }
  }
  if (!tensor.reshape) return OkStatus();
  const auto fixed = [](const Dims& dims) {
    int64_t product = 1;
    for (const int64_t dim : dims) product *= dim > 0 ? dim : 1;
    return product;
  };
  const auto variable = [](const Dims& dims) { return std::count(dims.begin(), dims.end(), -1); };
  if (fixed(tensor.dims) != fixed(*tensor.reshape) ||
      variable(tensor.dims) != variable(*tensor.reshape)) {
    return InvalidArgument("{}: 'dims' {} and 'reshape' {} have different sizes", where(),
                           ShapeText(tensor.dims), ShapeText(*tensor.reshape));
  }
  return OkStatus();
}

Status CheckTensors(const std::vector<TensorConfig>& tensors, std::string_view kind,
                    const ModelConfig& config) {
  std::set<std::string_view> names;
  for (const TensorConfig& tensor : tensors) {
    TRIREME_RETURN_IF_ERROR(CheckTensor(tensor, kind, config));
    if (!names.insert(tensor.name).second) {
      return InvalidArgument("model '{}' lists {} '{}' twice", config.name, kind, tensor.name);
    }
  }
  return OkStatus();
}

Status CheckBatching(const ModelConfig& config) {
  const DynamicBatching& batching = *config.dynamic_batching;
  if (config.max_batch_size <= 0) {
    return InvalidArgument(
        "dynamic batching preferred size must be set for a model that supports batching: '{}' has "
        "max_batch_size 0",
        config.name);
  }
  for (const int size : batching.preferred_batch_sizes) {
    if (size <= 0) {
      return InvalidArgument("dynamic batching preferred size must be positive for '{}'",
                             config.name);
    }
    if (size > config.max_batch_size) {
      return InvalidArgument("dynamic batching preferred size must be <= max batch size for '{}'",
                             config.name);
    }
  }
  if (batching.priority_levels > 0 &&
      (batching.default_priority_level == 0 ||
       batching.default_priority_level > batching.priority_levels)) {
    return InvalidArgument("default priority level must be in range [1, {}] for '{}'",
                           batching.priority_levels, config.name);
  }
  for (const auto& [level, policy] : batching.priority_queue_policy) {
    if (level == 0 || level > batching.priority_levels) {
      return InvalidArgument("priority_queue_policy names level {}, but '{}' has levels 1 to {}",
                             level, config.name, batching.priority_levels);
    }
  }
  if (!batching.preserve_ordering) return OkStatus();
  if (batching.priority_levels > 1) {
    return InvalidArgument(
        "Only one priority level is allowed when 'preserve_ordering' is true "
        "for '{}'",
        config.name);
  }
  if (batching.default_queue_policy.delay_on_timeout) {
    return InvalidArgument(
        "Queue policy can not have DELAY as timeout action when "
        "'preserve_ordering' is true for '{}'",
        config.name);
  }
  return OkStatus();
}

Status CheckSequences(const ModelConfig& config) {
  const SequenceBatching& batching = *config.sequence_batching;
  std::set<std::string> names;
  for (const TensorConfig& input : config.inputs) names.insert(input.name);
  std::set<SequenceBatching::ControlKind> kinds;
  for (const SequenceBatching::Control& control : batching.controls) {
    if (control.input.empty() || !names.insert(control.input).second) {
      return InvalidArgument(
          "model '{}': control input '{}' of sequence_batching needs a name of its own",
          config.name, control.input);
    }
    if (!kinds.insert(control.kind).second) {
      return InvalidArgument(
          "model '{}': sequence_batching has two control inputs of the same kind ('{}')",
          config.name, control.input);
    }
  }
  for (const SequenceBatching::State& state : batching.states) {
    if (!names.insert(state.input).second) {
      return InvalidArgument("model '{}': state input '{}' needs a name of its own", config.name,
                             state.input);
    }
  }
  if (batching.oldest && batching.max_candidate_sequences < 1) {
    return InvalidArgument("model '{}': max_candidate_sequences must be at least 1", config.name);
  }
  for (const int size : batching.preferred_batch_sizes) {
    if (size >= 1 && size <= std::max(1, config.max_batch_size)) continue;
    return InvalidArgument(
        "sequence batching preferred batch size must be positive and <= max batch size for '{}'",
        config.name);
  }
  if (batching.minimum_slot_utilization < 0 || batching.minimum_slot_utilization > 1) {
    return InvalidArgument("model '{}': minimum_slot_utilization must be from 0 to 1", config.name);
  }
  return OkStatus();
}

Status CheckCache(const ModelConfig& config) {
  if (!config.response_cache) return OkStatus();
  if (config.decoupled || config.sequence_batching) {
    return InvalidArgument(
        "model '{}': response_cache does not go with {}", config.name,
        config.decoupled ? "a decoupled transaction policy" : "sequence_batching");
  }
  return OkStatus();
}

Status CheckWarmup(const ModelConfig& config) {
  for (const WarmupSample& sample : config.warmup) {
    if (config.is_ensemble()) {
      return InvalidArgument("ensemble '{}' has model_warmup; its models warm up for themselves",
                             config.name);
    }
    if (std::cmp_greater(sample.batch_size, std::max(1, config.max_batch_size))) {
      return InvalidArgument("model_warmup '{}' of model '{}' has batch_size {}; at most {} goes",
                             sample.name, config.name, sample.batch_size,
                             std::max(1, config.max_batch_size));
    }
  }
  return OkStatus();
}

Status CheckGroups(const ModelConfig& config) {
  for (const InstanceGroup& group : config.instance_groups) {
    if (group.count < 0 || group.count > 1024) {
      return InvalidArgument("instance group '{}' of model '{}' has count {}; use 1 to 1024",
                             group.name, config.name, group.count);
    }
    const bool no_gpus =
        group.kind == InstanceGroup::Kind::kCpu || group.kind == InstanceGroup::Kind::kModel;
    if (no_gpus && !group.gpus.empty()) {
      return InvalidArgument(
          "instance group '{}' of model '{}' lists gpus, but its kind is not "
          "KIND_GPU",
          group.name, config.name);
    }
  }
  return OkStatus();
}

Status CheckEnsemble(const ModelConfig& config) {
  if (!config.backend.empty() && config.backend != "ensemble") {
    return InvalidArgument("Ensemble model '{}' must have platform type 'ensemble' and no backend",
                           config.name);
  }
  if (config.ensemble_steps.empty()) {
    return InvalidArgument("must specify 'step' for ensemble '{}'", config.name);
  }
  if (!config.instance_groups.empty()) {
    return InvalidArgument("instance group should not be specified for ensemble '{}'", config.name);
  }
  for (const EnsembleStep& step : config.ensemble_steps) {
    if (step.model_name.empty()) {
      return InvalidArgument("must specify 'model_name' in step of ensemble '{}'", config.name);
    }
    if (step.input_map.empty() || step.output_map.empty()) {
      return InvalidArgument(
          "must specify 'input_map' and 'output_map' in step '{}' of ensemble "
          "'{}'",
          step.model_name, config.name);
    }
  }
  return OkStatus();
}

}  // namespace

const TensorConfig* ModelConfig::FindInput(std::string_view tensor) const {
  for (const TensorConfig& input : inputs) {
    if (input.name == tensor) return &input;
  }
  return nullptr;
}

const TensorConfig* ModelConfig::FindOutput(std::string_view tensor) const {
  for (const TensorConfig& output : outputs) {
    if (output.name == tensor) return &output;
  }
  return nullptr;
}

Dims ModelConfig::FullDims(const TensorConfig& tensor) const {
  Dims dims = tensor.dims;
  if (max_batch_size > 0) dims.insert(dims.begin(), -1);
  return dims;
}

int ModelConfig::num_instances() const {
  int count = 0;
  for (const InstanceGroup& group : instance_groups) {
    const int sets = std::max<int>(1, static_cast<int>(group.gpus.size()));
    if (!group.passive) count += group.count * sets;
  }
  return std::max(1, count);
}

Status ValidateModelConfig(const ModelConfig& config) {
  if (config.max_batch_size < 0) {
    return InvalidArgument("'max_batch_size' must be non-negative value for model '{}'",
                           config.name);
  }
  if (!config.unsupported.empty()) {
    return Unimplemented(
        "model '{}' uses '{}', which does not exist yet; remove it from its "
        "configuration",
        config.name, config.unsupported.front());
  }
  TRIREME_RETURN_IF_ERROR(CheckTensors(config.inputs, "input", config));
  TRIREME_RETURN_IF_ERROR(CheckTensors(config.outputs, "output", config));
  TRIREME_RETURN_IF_ERROR(CheckGroups(config));
  if (config.dynamic_batching) TRIREME_RETURN_IF_ERROR(CheckBatching(config));
  if (config.sequence_batching) TRIREME_RETURN_IF_ERROR(CheckSequences(config));
  TRIREME_RETURN_IF_ERROR(CheckCache(config));
  TRIREME_RETURN_IF_ERROR(CheckWarmup(config));
  if (config.is_ensemble()) return CheckEnsemble(config);
  if (!config.ensemble_steps.empty()) {
    return InvalidArgument("model '{}' has ensemble_scheduling; its platform must be 'ensemble'",
                           config.name);
  }
  return OkStatus();
}

}  // namespace trireme::server
