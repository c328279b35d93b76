// SPDX-License-Identifier: Apache-2.0
// The models a server has: loading, unloading, versions, readiness. Thread-safe.
//
// Every change is made on one control thread, in order; a version that is replaced or unloaded goes
// on answering the calls it has and is destroyed there when the last has ended.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "server/core/model.h"
#include "server/repository/model_folder.h"

namespace trireme::server {

enum class ControlMode { kNone, kPoll, kExplicit };

struct RepositoryOptions {
  std::vector<std::string> paths;
  ControlMode control_mode = ControlMode::kNone;
  int poll_secs = 15;
  std::vector<std::string> load_models;  // at start, in explicit mode; "*": all
  std::string config_name;
  bool auto_complete = true;
  bool strict_readiness = true;
  uint64_t cache_bytes = 0;  // of responses; 0: none are kept
  // Of backends, by name; "" applies to all.
  std::map<std::string, std::map<std::string, std::string>> backend_settings;
};

// What a load request carries besides the name.
struct LoadOverrides {
  std::string config_json;                   // "": the folder's own
  std::map<std::string, std::string> files;  // "1/model.py" -> content; need a configuration
};

struct IndexEntry {
  std::string name;
  int64_t version = 0;  // 0: never loaded
  std::string state;    // READY, UNAVAILABLE, LOADING, UNLOADING; "": never loaded
  std::string reason;
};

// INVALID_ARGUMENT for names that could not stand in a path of the protocol.
Status CheckModelName(const std::string& name);

class Repository {
 public:
  using DoneFn = std::function<void(Status)>;

  Repository(RepositoryOptions options, MetricsRegistry& metrics, ModelCaller& caller);
  ~Repository();

  BackendTable& backends() { return backends_; }

  // Begins loading what the control mode wants at start.
  void Start();
  // Waits for that; the first failure, if any.
  Status WaitUntilStarted();
  // A model that comes from no folder, under one or more names: each has a configuration, statistics
  // and metrics of its own.
  Status Add(const std::vector<std::string>& names, const ModelConfig& config,
             const std::shared_ptr<const Backend>& backend);

  // NOT_FOUND and UNAVAILABLE as clients know them.
  StatusOr<std::shared_ptr<Model>> Find(const std::string& name, int64_t version) const;
  std::vector<int64_t> ReadyVersions(const std::string& name) const;
  // Whether the model is known at all, loaded or not.
  bool Knows(const std::string& name) const;
  std::vector<std::shared_ptr<Model>> ReadyModels() const;
  std::vector<IndexEntry> Index(bool ready_only) const;
  // As --strict-readiness says.
  bool Ready() const;

  // On the control thread; `done` is called there.
  void Load(const std::string& name, LoadOverrides overrides, DoneFn done);
  void Unload(const std::string& name, bool unload_dependents, DoneFn done);

  int64_t num_in_flight() const;
  // Stops polling and loading; waits until the models' calls have ended, at most `drain_ms`.
  void Shutdown(int64_t drain_ms);

 private:
  struct Version {
    std::string state;
    std::string reason;
    // Shared: calls in flight outlive a reload.
    std::shared_ptr<Model> model;
  };
  struct Entry {
    std::string dir;  // "": added by the program
    std::string fingerprint;
    // The server was told to serve it: it is not ready without. A load by request answers for itself.
    bool wanted = false;
    std::map<int64_t, Version> versions;
  };

  void RunControl();
  void Post(std::function<void()> task);
  Status CheckRunning() const;
  void LoadAtStart();
  void PollOnce();
  // The functions below run on the control thread.
  Status LoadNow(const std::string& name, const LoadOverrides& overrides);
  Status LoadFolder(const ModelFolder& folder, const LoadOverrides& overrides);
  Status LoadDependencies(const ModelConfig& config);
  StatusOr<std::shared_ptr<Model>> LoadVersion(const ModelFolder& folder, ModelConfig config,
                                               int64_t version);
  Status UnloadNow(const std::string& name, bool unload_dependents);
  void Retire(const std::string& name, int64_t version, std::shared_ptr<Model> model);
  void Reap();
  StatusOr<ModelFolder> FolderOf(const std::string& name) const;
  void SetVersion(const std::string& name, int64_t version, Version state);

  const RepositoryOptions options_;
  MetricsRegistry& metrics_;
  ModelCaller& caller_;
  BackendTable backends_;
  const std::unique_ptr<ResponseCache> cache_;  // null: no responses are kept

  mutable Mutex mutex_;
  CondVar changed_;
  std::map<std::string, Entry> models_ GUARDED_BY(mutex_);
  std::deque<std::function<void()>> tasks_ GUARDED_BY(mutex_);
  bool started_ GUARDED_BY(mutex_) = false;  // the models of the start are loaded, or failed to
  Status start_status_ GUARDED_BY(mutex_);
  bool stopping_ GUARDED_BY(mutex_) = false;

  struct Retired {
    std::string name;
    int64_t version;
    std::shared_ptr<Model> model;
  };
  std::vector<Retired> retired_;            // control thread
  int64_t next_poll_ns_ = 0;                // control thread
  std::vector<std::string> loading_chain_;  // control thread: ensembles being loaded
  std::vector<std::string> override_dirs_;  // control thread: removed at the end
  std::thread control_;
};

}  // namespace trireme::server
