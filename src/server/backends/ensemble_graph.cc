// SPDX-License-Identifier: Apache-2.0
#include "server/backends/ensemble_graph.h"

#include "base/status.h"
#include "server/core/model.h"

namespace trireme::server {

int EnsembleGraph::ProducerOf(const std::string& tensor) const {
  const auto found = producers_.find(tensor);
  return found == producers_.end() ? -1 : static_cast<int>(found->second);
}

std::set<size_t> EnsembleGraph::NeededFor(const std::vector<std::string>& tensors) const {
  std::set<size_t> needed;
  std::vector<std::string> open = tensors;
  while (!open.empty()) {
    const int producer = ProducerOf(open.back());
    open.pop_back();
    if (producer < 0 || !needed.insert(static_cast<size_t>(producer)).second) continue;
    for (const auto& [input, tensor] : steps_[static_cast<size_t>(producer)].input_map) {
      open.push_back(tensor);
    }
  }
  return needed;
}

// Holds one step against its model; `types` gathers the type of each ensemble tensor.
Status EnsembleGraph::CheckStep(const ModelConfig& config, const EnsembleStep& step,
                                const ModelCaller& caller,
                                std::map<std::string, DataType>& types) const {
  const StatusOr<std::shared_ptr<Model>> model =
      caller.FindModel(step.model_name, step.model_version);
  if (!model.ok()) {
    return InvalidArgument("ensemble '{}' depends on '{}' which has no loaded version: {}",
                           config.name, step.model_name, model.status().message());
  }
  const ModelConfig& inner = (*model)->config();
  if (inner.max_batch_size > 0 && config.max_batch_size > inner.max_batch_size) {
    return InvalidArgument(
        "ensemble '{}' allows maximum batch size {}, but it contains model '{}' "
        "which only allows maximum batch size to be {}",
        config.name, config.max_batch_size, inner.name, inner.max_batch_size);
  }
  const auto meet = [&](const TensorConfig* declared, const std::string& name,
                        const std::string& tensor) -> Status {
    if (declared == nullptr) {
      return InvalidArgument("ensemble '{}': step '{}' maps '{}', which that model does not have",
                             config.name, step.model_name, name);
    }
    const auto [entry, added] = types.emplace(tensor, declared->type);
    if (added || entry->second == declared->type) return OkStatus();
    return InvalidArgument("ensemble '{}': tensor '{}' is {} in one place and {} as '{}' of '{}'",
                           config.name, tensor, DataTypeName(entry->second),
                           DataTypeName(declared->type), name, step.model_name);
  };
  for (const auto& [input, tensor] : step.input_map) {
    TRIREME_RETURN_IF_ERROR(meet(inner.FindInput(input), input, tensor));
    if (ProducerOf(tensor) < 0 && config.FindInput(tensor) == nullptr) {
      return InvalidArgument(
          "ensemble '{}': tensor '{}', which step '{}' needs, is made by no step "
          "and is no input",
          config.name, tensor, step.model_name);
    }
  }
  for (const TensorConfig& input : inner.inputs) {
    if (!input.optional && step.input_map.count(input.name) == 0) {
      return InvalidArgument("ensemble '{}': step '{}' does not map required input '{}'",
                             config.name, step.model_name, input.name);
    }
  }
  for (const auto& [output, tensor] : step.output_map) {
    TRIREME_RETURN_IF_ERROR(meet(inner.FindOutput(output), output, tensor));
  }
  return OkStatus();
}

StatusOr<EnsembleGraph> EnsembleGraph::Make(const ModelConfig& config, const ModelCaller& caller) {
  EnsembleGraph graph;
  graph.steps_ = config.ensemble_steps;
  for (size_t i = 0; i < graph.steps_.size(); ++i) {
    for (const auto& [output, tensor] : graph.steps_[i].output_map) {
      const bool made = !graph.producers_.emplace(tensor, i).second;
      if (made || config.FindInput(tensor) != nullptr) {
        return InvalidArgument("ensemble '{}': tensor '{}' is made more than once", config.name,
                               tensor);
      }
    }
  }
  std::map<std::string, DataType> types;
  for (const auto* list : {&config.inputs, &config.outputs}) {
    for (const TensorConfig& tensor : *list) types[tensor.name] = tensor.type;
  }
  for (const EnsembleStep& step : graph.steps_) {
    TRIREME_RETURN_IF_ERROR(graph.CheckStep(config, step, caller, types));
  }
  for (const TensorConfig& output : config.outputs) {
    if (graph.ProducerOf(output.name) < 0) {
      return InvalidArgument("ensemble '{}': output '{}' is made by no step", config.name,
                             output.name);
    }
  }
  graph.downstream_.resize(graph.steps_.size());
  for (size_t i = 0; i < graph.steps_.size(); ++i) {
    // Whoever needs step i is downstream of it.
    for (size_t user = 0; user < graph.steps_.size(); ++user) {
      std::vector<std::string> inputs;
      for (const auto& [input, tensor] : graph.steps_[user].input_map) inputs.push_back(tensor);
      if (graph.NeededFor(inputs).count(i) > 0) graph.downstream_[i].insert(user);
    }
    if (graph.downstream_[i].count(i) > 0) {
      return InvalidArgument("ensemble '{}': step '{}' needs its own output", config.name,
                             graph.steps_[i].model_name);
    }
  }
  return graph;
}

}  // namespace trireme::server
