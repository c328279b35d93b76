// SPDX-License-Identifier: Apache-2.0
#include "engine/engine_folder.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/status.h"
#include "formats/checkpoint.h"

namespace trireme::engine {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

StatusOr<std::string> RankFileOf(const std::string& path) {
  std::error_code error;
  if (!fs::exists(path, error)) return NotFound("no engine at '{}'", path);
  if (!fs::is_directory(path, error)) return path;
  const std::string rank0 = (fs::path(path) / "rank0.engine").string();
  if (fs::exists(rank0, error)) return rank0;
  return NotFound(
      "'{}' holds no rank0.engine; make one with `trireme build --checkpoint_dir CHECKPOINT "
      "--output_dir {}`",
      path, path);
}

StatusOr<int> Limit(const json& build_config, const char* key) {
  const auto found = build_config.find(key);
  if (found == build_config.end() || !found->is_number_integer()) {
    return InvalidArgument("engine: build_config has no integer '{}'", key);
  }
  const int64_t value = found->get<int64_t>();
  if (value < 1 || value > (1 << 30)) {
    return InvalidArgument("engine: build_config '{}' is {}", key, value);
  }
  return static_cast<int>(value);
}

Status ReadConfig(LoadedEngine& engine) {
  const json config = json::parse(engine.file->config_json(), nullptr, /*allow_exceptions=*/false);
  if (!config.is_object() || !config.contains("pretrained_config") ||
      !config.contains("build_config") || !config["build_config"].is_object()) {
    return InvalidArgument(
        "the engine's configuration is damaged; build it again with `trireme build`");
  }
  TRIREME_ASSIGN_OR_RETURN(engine.model, ParseCheckpointConfig(config["pretrained_config"].dump()));
  const json& build = config["build_config"];
  TRIREME_ASSIGN_OR_RETURN(engine.max_batch_size, Limit(build, "max_batch_size"));
  TRIREME_ASSIGN_OR_RETURN(engine.max_num_tokens, Limit(build, "max_num_tokens"));
  TRIREME_ASSIGN_OR_RETURN(engine.max_seq_len, Limit(build, "max_seq_len"));
  const json plugins = build.value("plugin_config", json::object());
  TRIREME_ASSIGN_OR_RETURN(engine.tokens_per_block, Limit(plugins, "tokens_per_block"));
  return OkStatus();
}

// Every stored weight of the plan must be in the file with the size the plan says.
Status CheckWeights(const LoadedEngine& engine) {
  for (const plan::Weight& weight : engine.plan.weights) {
    if (weight.synthetic_std > 0) continue;
    const EngineTensorEntry* entry = engine.file->Find(weight.name);
    if (entry == nullptr) return InvalidArgument("engine: weight '{}' is missing", weight.name);
    if (entry->num_bytes != static_cast<uint64_t>(weight.num_bytes)) {
      return InvalidArgument("engine: weight '{}' has {} bytes, its plan says {}", weight.name,
                             entry->num_bytes, weight.num_bytes);
    }
  }
  return OkStatus();
}

}  // namespace

StatusOr<LoadedEngine> OpenEngine(const std::string& path) {
  TRIREME_ASSIGN_OR_RETURN(const std::string rank_file, RankFileOf(path));
  LoadedEngine engine;
  TRIREME_ASSIGN_OR_RETURN(engine.file, EngineFile::Open(rank_file));
  TRIREME_RETURN_IF_ERROR(ReadConfig(engine).WithContext(rank_file));
  if (engine.model.mapping.world_size > 1) {
    return Unimplemented(
        "'{}' is one of {} ranks; engines of several ranks are not run yet, build with tp_size 1 "
        "and "
        "pp_size 1",
        rank_file, engine.model.mapping.world_size);
  }
  StatusOr<plan::Plan> plan = plan::PlanFromJson(engine.file->plan_json());
  if (!plan.ok()) return plan.status().WithContext(rank_file);
  engine.plan = std::move(*plan);
  TRIREME_RETURN_IF_ERROR(CheckWeights(engine).WithContext(rank_file));
  return engine;
}

Status VerifyWeights(const LoadedEngine& engine, ThreadPool& pool) {
  const std::span<const EngineTensorEntry> tensors = engine.file->tensors();
  std::vector<Status> statuses(tensors.size());
  pool.ParallelFor(static_cast<int64_t>(tensors.size()), [&](int64_t i, int) {
    const std::string& name = tensors[static_cast<size_t>(i)].name;
    engine.file->Prefetch(name);
    statuses[static_cast<size_t>(i)] = engine.file->Verify(name);
  });
  for (const Status& status : statuses) TRIREME_RETURN_IF_ERROR(status);
  return OkStatus();
}

}  // namespace trireme::engine
