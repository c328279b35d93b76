// SPDX-License-Identifier: Apache-2.0
#include "server/repository/make_model.h"

#include <algorithm>
#include <filesystem>
#include <numeric>

#include "base/log.h"
#include "base/status.h"
#include "server/core/warmup.h"

namespace trireme::server {
namespace {

// The GPUs of the machine, by their device files: the server itself computes on none.
int CountGpus() {
  int count = 0;
  std::error_code ignored;
  while (std::filesystem::exists(fmt::format("/dev/nvidia{}", count), ignored)) ++count;
  return count;
}

// Groups get names and places; a model without any gets one.
Status CompleteGroups(const Backend& backend, ModelConfig& config) {
  if (config.is_ensemble()) return OkStatus();
  if (config.instance_groups.empty()) {
    config.instance_groups.push_back({.kind = backend.preferred_kind()});
  }
  for (size_t i = 0; i < config.instance_groups.size(); ++i) {
    InstanceGroup& group = config.instance_groups[i];
    if (group.name.empty()) group.name = fmt::format("{}_{}", config.name, i);
    TRIREME_RETURN_IF_ERROR(
        PlaceGroup(backend.places_on_gpus() ? CountGpus() : -1, config.name, group));
  }
  return OkStatus();
}

}  // namespace

Status PlaceGroup(int num_gpus, const std::string& model, InstanceGroup& group) {
  using Kind = InstanceGroup::Kind;
  if (group.kind == Kind::kAuto) {
    const bool usable = std::all_of(group.gpus.begin(), group.gpus.end(),
                                    [&](int gpu) { return gpu >= 0 && gpu < num_gpus; });
    group.kind = num_gpus > 0 && usable ? Kind::kGpu : Kind::kCpu;
    if (group.kind == Kind::kCpu) group.gpus.clear();
  }
  if (group.kind != Kind::kGpu) return OkStatus();
  if (num_gpus <= 0) {
    LogWarning("instances_on_cpu model={} group={} reason=\"{}\"", model, group.name,
               num_gpus < 0 ? "its backend places no instances on GPUs"
                            : "KIND_GPU, and the machine has no GPU");
    group.kind = Kind::kCpu;
    group.count *= std::max(1, static_cast<int>(group.gpus.size()));
    group.gpus.clear();
    return OkStatus();
  }
  for (const int gpu : group.gpus) {
    if (gpu >= 0 && gpu < num_gpus) continue;
    return InvalidArgument(
        "instance group '{}' of model '{}' names GPU {}; the machine has GPUs 0 to {}", group.name,
        model, gpu, num_gpus - 1);
  }
  if (group.gpus.empty()) {
    group.gpus.resize(static_cast<size_t>(num_gpus));
    std::iota(group.gpus.begin(), group.gpus.end(), 0);
  }
  return OkStatus();
}

StatusOr<std::shared_ptr<Model>> MakeModel(ModelConfig config, const ModelSource& source,
                                           const Backend& backend, MetricsRegistry& metrics,
                                           ModelCaller& caller, ResponseCache* cache) {
  TRIREME_RETURN_IF_ERROR(backend.Complete({.model_dir = source.model_dir,
                                            .version_dir = source.version_dir,
                                            .caller = caller,
                                            .settings = source.settings,
                                            .auto_complete = source.auto_complete},
                                           config));
  TRIREME_RETURN_IF_ERROR(CompleteGroups(backend, config));
  TRIREME_RETURN_IF_ERROR(ValidateModelConfig(config));
  TRIREME_RETURN_IF_ERROR(StoreCompletion(config));
  const BackendContext context{.config = config,
                               .model_dir = source.model_dir,
                               .version_dir = source.version_dir,
                               .version = source.version,
                               .metrics = metrics,
                               .caller = caller,
                               .settings = source.settings,
                               .is_alias = source.is_alias};
  TRIREME_ASSIGN_OR_RETURN(std::unique_ptr<BackendModel> loaded, backend.Load(context));
  if (config.response_cache && cache == nullptr) {
    LogWarning("response_cache_off model={} reason=\"--cache-config=local,size=BYTES turns it on\"",
               config.name);
  }
  auto model =
      std::make_shared<Model>(std::move(config), source.version, std::move(loaded), metrics, cache);
  TRIREME_RETURN_IF_ERROR(WarmUp(*model, source.model_dir));
  return model;
}

}  // namespace trireme::server
