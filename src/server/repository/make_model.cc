// SPDX-License-Identifier: Apache-2.0
#include "server/repository/make_model.h"

#include "base/log.h"
#include "base/status.h"

namespace trireme::server {
namespace {

// Groups get names and kinds; a model without any gets one.
void CompleteGroups(const Backend& backend, ModelConfig& config) {
  if (config.is_ensemble()) return;
  if (config.instance_groups.empty()) {
    config.instance_groups.push_back({.kind = backend.preferred_kind()});
  }
  for (size_t i = 0; i < config.instance_groups.size(); ++i) {
    InstanceGroup& group = config.instance_groups[i];
    if (group.name.empty()) group.name = fmt::format("{}_{}", config.name, i);
    if (group.kind == InstanceGroup::Kind::kAuto) group.kind = InstanceGroup::Kind::kCpu;
    if (group.kind == InstanceGroup::Kind::kGpu) {
      LogWarning(
          "instance_group_kind_ignored model={} group={} reason=\"backend '{}' places no instances "
          "on GPUs\"",
          config.name, group.name, config.backend);
    }
  }
}

}  // namespace

StatusOr<std::shared_ptr<Model>> MakeModel(ModelConfig config, const ModelSource& source,
                                           const Backend& backend, MetricsRegistry& metrics,
                                           ModelCaller& caller) {
  TRIREME_RETURN_IF_ERROR(backend.Complete({.model_dir = source.model_dir,
                                            .version_dir = source.version_dir,
                                            .caller = caller,
                                            .settings = source.settings,
                                            .auto_complete = source.auto_complete},
                                           config));
  CompleteGroups(backend, config);
  TRIREME_RETURN_IF_ERROR(ValidateModelConfig(config));
  TRIREME_RETURN_IF_ERROR(StoreCompletion(config));
  const BackendContext context{.config = config,
                               .model_dir = source.model_dir,
                               .version_dir = source.version_dir,
                               .version = source.version,
                               .metrics = metrics,
                               .caller = caller,
                               .settings = source.settings};
  TRIREME_ASSIGN_OR_RETURN(std::unique_ptr<BackendModel> loaded, backend.Load(context));
  return std::make_shared<Model>(std::move(config), source.version, std::move(loaded), metrics);
}

}  // namespace trireme::server
