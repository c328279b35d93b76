// SPDX-License-Identifier: Apache-2.0
#include "server/repository/repository.h"

#include <algorithm>
#include <chrono>
#include <filesystem>

#include "base/log.h"
#include "base/log_text.h"
#include "base/status.h"
#include "server/backends/layout/stock_model.h"
#include "server/repository/make_model.h"
#include "server/repository/override_files.h"

namespace trireme::server {
namespace {

constexpr char kReady[] = "READY";
constexpr char kLoading[] = "LOADING";
constexpr char kUnloading[] = "UNLOADING";
constexpr char kUnavailable[] = "UNAVAILABLE";
constexpr char kUnloaded[] = "unloaded";

}  // namespace

Status CheckModelName(const std::string& name) {
  const bool blank = name.find_first_not_of(" \t\r\n") == std::string::npos;
  if (!blank && name.find('/') == std::string::npos && name.find("..") == std::string::npos) {
    return OkStatus();
  }
  return InvalidArgument("model name '{}' must not be empty nor contain '/' or '..'", name);
}

Repository::Repository(RepositoryOptions options, MetricsRegistry& metrics, ModelCaller& caller)
    : options_(std::move(options)),
      metrics_(metrics),
      caller_(caller),
      cache_(options_.cache_bytes > 0 ? std::make_unique<ResponseCache>(options_.cache_bytes)
                                      : nullptr) {
  control_ = std::thread([this] { RunControl(); });
}

Repository::~Repository() {
  Shutdown(0);
  std::error_code ignored;
  for (const std::string& dir : override_dirs_) std::filesystem::remove_all(dir, ignored);
}

void Repository::Start() {
  Post([this] {
    if (CheckRunning().ok()) LoadAtStart();
  });
}

Status Repository::CheckRunning() const {
  MutexLock lock(mutex_);
  return stopping_ ? Unavailable("Server exiting") : OkStatus();
}

Status Repository::WaitUntilStarted() {
  MutexLock lock(mutex_);
  while (!started_ && !stopping_) changed_.Wait(mutex_);
  return start_status_;
}

// A task that comes when the control thread is gone runs here, and finds out by itself.
void Repository::Post(std::function<void()> task) {
  {
    MutexLock lock(mutex_);
    if (!stopping_) {
      tasks_.push_back(std::move(task));
      changed_.NotifyAll();
      return;
    }
  }
  task();
}

void Repository::RunControl() {
  while (true) {
    std::function<void()> task;
    {
      MutexLock lock(mutex_);
      if (tasks_.empty() && !stopping_) {
        const bool often = !retired_.empty();
        changed_.WaitFor(mutex_, std::chrono::milliseconds(often ? 5 : 500));
      }
      if (stopping_) return;
      if (!tasks_.empty()) {
        task = std::move(tasks_.front());
        tasks_.pop_front();
      }
    }
    if (task) task();
    Reap();
    PollOnce();
  }
}

void Repository::LoadAtStart() {
  Status status;
  const StatusOr<std::vector<ModelFolder>> folders = ScanRepositories(options_.paths);
  if (!folders.ok()) status = folders.status();
  const auto wanted = [&](const std::string& name) {
    const auto& names = options_.load_models;
    return options_.control_mode != ControlMode::kExplicit ||
           std::find(names.begin(), names.end(), "*") != names.end() ||
           std::find(names.begin(), names.end(), name) != names.end();
  };
  for (const std::string& name : options_.load_models) {
    const bool known =
        name == "*" || (folders.ok() && std::any_of(folders->begin(), folders->end(),
                                                    [&](const auto& f) { return f.name == name; }));
    if (!known && status.ok())
      status = NotFound("--load-model: no model '{}' in a repository", name);
  }
  for (const ModelFolder& folder : folders.ok() ? *folders : std::vector<ModelFolder>()) {
    if (!wanted(folder.name)) {
      MutexLock lock(mutex_);
      Entry& entry = models_[folder.name];
      if (entry.versions.empty()) entry.dir = folder.dir;
      continue;
    }
    const Status loaded = LoadFolder(folder, {});
    if (!loaded.ok() && status.ok()) status = loaded;
  }
  next_poll_ns_ = NowNs() + int64_t{options_.poll_secs} * 1000000000;
  MutexLock lock(mutex_);
  start_status_ = status;
  started_ = true;
  changed_.NotifyAll();
}

void Repository::PollOnce() {
  if (options_.control_mode != ControlMode::kPoll || next_poll_ns_ == 0 ||
      NowNs() < next_poll_ns_) {
    return;
  }
  next_poll_ns_ = NowNs() + int64_t{options_.poll_secs} * 1000000000;
  const StatusOr<std::vector<ModelFolder>> folders = ScanRepositories(options_.paths);
  if (!folders.ok()) {
    LogError("poll_failed reason={}", Quoted(folders.status().message()));
    return;
  }
  std::vector<std::string> gone;
  {
    MutexLock lock(mutex_);
    for (const auto& [name, entry] : models_) {
      const bool there =
          std::any_of(folders->begin(), folders->end(),
                      [&name = name](const auto& folder) { return folder.name == name; });
      if (!there && !entry.dir.empty() && !entry.versions.empty()) gone.push_back(name);
    }
  }
  for (const ModelFolder& folder : *folders) {
    if (const Status status = LoadFolder(folder, {}); !status.ok()) {
      LogError("load_failed model={} reason={}", folder.name, Quoted(status.message()));
    }
  }
  for (const std::string& name : gone) (void)UnloadNow(name, false).ok();
}

StatusOr<ModelFolder> Repository::FolderOf(const std::string& name) const {
  TRIREME_ASSIGN_OR_RETURN(const auto folders, ScanRepositories(options_.paths));
  for (const ModelFolder& folder : folders) {
    if (folder.name == name) return folder;
  }
  return Internal("failed to load '{}', failed to poll from model repository", name);
}

Status Repository::LoadNow(const std::string& name, const LoadOverrides& overrides) {
  TRIREME_RETURN_IF_ERROR(CheckModelName(name));
  if (!overrides.files.empty() && overrides.config_json.empty()) {
    return InvalidArgument(
        "load of model '{}' gives files but no 'config'; files need a "
        "configuration",
        name);
  }
  if (!overrides.files.empty()) {
    TRIREME_ASSIGN_OR_RETURN(const std::string dir, WriteOverrideFiles(overrides.files));
    override_dirs_.push_back(dir);
    return LoadFolder({name, dir}, overrides);
  }
  TRIREME_ASSIGN_OR_RETURN(const ModelFolder folder, FolderOf(name));
  return LoadFolder(folder, overrides);
}

Status Repository::LoadFolder(const ModelFolder& folder, const LoadOverrides& overrides) {
  const std::string fingerprint = Fingerprint(folder.dir) + overrides.config_json;
  {
    MutexLock lock(mutex_);
    Entry& entry = models_[folder.name];
    if (entry.dir.empty() && !entry.versions.empty()) {
      return InvalidArgument(
          "'{}' is a name of the model that the server was started with; rename the folder {}",
          folder.name, folder.dir);
    }
    entry.dir = folder.dir;
    entry.wanted |= !started_ || options_.control_mode != ControlMode::kExplicit;
    bool unchanged = !entry.versions.empty() && entry.fingerprint == fingerprint;
    for (const auto& [number, version] : entry.versions) {
      unchanged &= version.state == kReady || version.state == kUnavailable;
      unchanged &= version.reason != kUnloaded;
    }
    // Polling does not try a failed model again before something changed; asking for it does.
    for (const auto& [number, version] : entry.versions) {
      if (options_.control_mode == ControlMode::kExplicit) unchanged &= version.state == kReady;
    }
    if (unchanged) return OkStatus();
    entry.fingerprint = fingerprint;
  }
  const auto fail = [&](int64_t version, const Status& status) {
    LogError("load_failed model={} version={} reason={}", folder.name, version,
             Quoted(status.message()));
    return InvalidArgument("load failed for model '{}': version {} is at UNAVAILABLE state: {};",
                           folder.name, version, status.message());
  };
  StatusOr<ModelConfig> config = ReadModelConfig(
      folder, {options_.config_name, options_.auto_complete, overrides.config_json});
  const std::vector<int64_t> available = FindVersions(folder.dir);
  Status status = config.ok() ? LoadDependencies(*config) : config.status();
  if (status.ok() && available.empty()) {
    status = InvalidArgument(
        "at least one version must be available under the version policy of "
        "model '{}': make the folder {}/1",
        folder.name, folder.dir);
  }
  if (!status.ok()) {
    const int64_t version = available.empty() ? 1 : available.back();
    {
      // The version that serves goes on serving.
      MutexLock lock(mutex_);
      Version& state = models_[folder.name].versions[version];
      if (state.model == nullptr) state = {kUnavailable, std::string(status.message()), nullptr};
    }
    return fail(version, status);
  }
  const std::vector<int64_t> wanted = ChooseVersions(config->version_policy, available);
  Status first_failure;
  for (const int64_t version : wanted) {
    StatusOr<std::shared_ptr<Model>> model = LoadVersion(folder, *config, version);
    if (model.ok()) {
      SetVersion(folder.name, version, {kReady, "", std::move(*model)});
      LogInfo("successfully loaded '{}' version {}", folder.name, version);
      continue;
    }
    SetVersion(folder.name, version,
               {kUnavailable, std::string(model.status().message()), nullptr});
    const Status failure = fail(version, model.status());
    if (first_failure.ok()) first_failure = failure;
  }
  std::vector<int64_t> dropped;
  {
    MutexLock lock(mutex_);
    for (const auto& [version, state] : models_[folder.name].versions) {
      const bool keep = std::find(wanted.begin(), wanted.end(), version) != wanted.end();
      if (!keep && state.model != nullptr) dropped.push_back(version);
    }
  }
  for (const int64_t version : dropped) {
    SetVersion(folder.name, version, {kUnavailable, kUnloaded, nullptr});
  }
  return first_failure;
}

Status Repository::LoadDependencies(const ModelConfig& config) {
  if (config.ensemble_steps.empty()) return OkStatus();
  if (std::find(loading_chain_.begin(), loading_chain_.end(), config.name) !=
      loading_chain_.end()) {
    return InvalidArgument("circular dependency between ensembles: '{}' needs itself", config.name);
  }
  loading_chain_.push_back(config.name);
  Status status;
  for (const EnsembleStep& step : config.ensemble_steps) {
    if (!status.ok() || !ReadyVersions(step.model_name).empty()) continue;
    if (!LoadNow(step.model_name, {}).ok()) {
      status = InvalidArgument("ensemble '{}' depends on '{}' which has no loaded version",
                               config.name, step.model_name);
    }
  }
  loading_chain_.pop_back();
  return status;
}

StatusOr<std::shared_ptr<Model>> Repository::LoadVersion(const ModelFolder& folder,
                                                         ModelConfig config, int64_t version) {
  const std::string version_dir = folder.dir + "/" + std::to_string(version);
  std::error_code ignored;
  if (!std::filesystem::is_directory(version_dir, ignored)) {
    return NotFound("version {} of model '{}' has no folder {}", version, config.name, version_dir);
  }
  {
    MutexLock lock(mutex_);
    Version& state = models_[folder.name].versions[version];
    if (state.model == nullptr) state = {kLoading, "", nullptr};
  }
  TRIREME_ASSIGN_OR_RETURN(const std::string name, ChooseBackend(config, folder.dir, version_dir));
  if (!config.is_ensemble()) config.backend = name;
  TRIREME_ASSIGN_OR_RETURN(const auto backend, backends_.Find(name));
  std::map<std::string, std::string> settings;
  for (const std::string& key : {std::string(), name}) {
    const auto found = options_.backend_settings.find(key);
    if (found == options_.backend_settings.end()) continue;
    for (const auto& [setting, value] : found->second) settings[setting] = value;
  }
  return MakeModel(std::move(config),
                   {folder.dir, version_dir, version, settings, options_.auto_complete}, *backend,
                   metrics_, caller_, cache_.get());
}

void Repository::SetVersion(const std::string& name, int64_t version, Version state) {
  std::shared_ptr<Model> old;
  {
    MutexLock lock(mutex_);
    Version& slot = models_[name].versions[version];
    // A version that cannot be replaced stays as it is.
    if (state.model == nullptr && slot.model != nullptr && state.reason != kUnloaded) return;
    old = std::move(slot.model);
    if (old != nullptr && state.model == nullptr) state.state = kUnloading;
    slot = std::move(state);
  }
  if (old != nullptr) Retire(name, version, std::move(old));
}

Status Repository::Add(const std::vector<std::string>& names, const ModelConfig& config,
                       const std::shared_ptr<const Backend>& backend) {
  const std::map<std::string, std::string> settings;
  for (const std::string& name : names) {
    TRIREME_RETURN_IF_ERROR(CheckModelName(name));
    ModelConfig named = config;
    named.name = name;
    const ModelSource source = {.settings = settings, .is_alias = name != names.front()};
    TRIREME_ASSIGN_OR_RETURN(
        std::shared_ptr<Model> model,
        MakeModel(std::move(named), source, *backend, metrics_, caller_, cache_.get()));
    MutexLock lock(mutex_);
    Entry& entry = models_[name];
    if (!entry.versions.empty()) continue;  // a name given twice
    entry.dir.clear();                      // a folder of that name is not read
    entry.wanted = true;
    entry.versions[1] = {kReady, "", std::move(model)};
  }
  return OkStatus();
}

Status Repository::UnloadNow(const std::string& name, bool unload_dependents) {
  std::vector<int64_t> versions;
  std::vector<std::string> dependents;
  {
    MutexLock lock(mutex_);
    const auto found = models_.find(name);
    if (found == models_.end()) return OkStatus();
    for (const auto& [version, state] : found->second.versions) {
      versions.push_back(version);
      if (state.model == nullptr || !unload_dependents) continue;
      for (const EnsembleStep& step : state.model->config().ensemble_steps) {
        dependents.push_back(step.model_name);
      }
    }
    found->second.fingerprint.clear();
  }
  for (const int64_t version : versions) {
    SetVersion(name, version, {kUnavailable, kUnloaded, nullptr});
  }
  for (const std::string& dependent : dependents) {
    TRIREME_RETURN_IF_ERROR(UnloadNow(dependent, unload_dependents));
  }
  return OkStatus();
}

void Repository::Retire(const std::string& name, int64_t version, std::shared_ptr<Model> model) {
  retired_.push_back({name, version, std::move(model)});
}

void Repository::Reap() {
  std::erase_if(retired_, [&](Retired& retired) {
    // Nobody can find it any more, so both counts only fall.
    if (retired.model.use_count() > 1 || retired.model->num_in_flight() > 0) return false;
    retired.model.reset();
    MutexLock lock(mutex_);
    Version& state = models_[retired.name].versions[retired.version];
    if (state.state == kUnloading) state = {kUnavailable, kUnloaded, nullptr};
    LogInfo("unloaded model={} version={}", retired.name, retired.version);
    return true;
  });
}

void Repository::Load(const std::string& name, LoadOverrides overrides, DoneFn done) {
  if (options_.control_mode != ControlMode::kExplicit) {
    return done(Unavailable("explicit model load / unload is not allowed if polling is enabled"));
  }
  Post([this, name, overrides = std::move(overrides), done = std::move(done)] {
    const Status running = CheckRunning();
    done(running.ok() ? LoadNow(name, overrides) : running);
  });
}

void Repository::Unload(const std::string& name, bool unload_dependents, DoneFn done) {
  if (options_.control_mode != ControlMode::kExplicit) {
    return done(Unavailable("explicit model load / unload is not allowed if polling is enabled"));
  }
  Post([this, name, unload_dependents, done = std::move(done)] {
    const Status running = CheckRunning();
    done(running.ok() ? UnloadNow(name, unload_dependents) : running);
  });
}

}  // namespace trireme::server
