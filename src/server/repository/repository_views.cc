// SPDX-License-Identifier: Apache-2.0
// What others see of a repository, and its end.
#include <algorithm>
#include <chrono>
#include <thread>

#include "base/status.h"
#include "server/repository/repository.h"

namespace trireme::server {

StatusOr<std::shared_ptr<Model>> Repository::Find(const std::string& name, int64_t version) const {
  MutexLock lock(mutex_);
  const auto found = models_.find(name);
  if (found == models_.end()) return NotFound("Request for unknown model: '{}' is not found", name);
  const std::map<int64_t, Version>& versions = found->second.versions;
  if (version > 0) {
    const auto at = versions.find(version);
    if (at == versions.end()) {
      return NotFound("Request for unknown model: '{}' version {} is not found", name, version);
    }
    if (at->second.model != nullptr) return at->second.model;
    return Unavailable("Request for unknown model: '{}' version {} is not at ready state", name,
                       version);
  }
  for (auto at = versions.rbegin(); at != versions.rend(); ++at) {
    if (at->second.model != nullptr) return at->second.model;
  }
  return NotFound("Request for unknown model: '{}' has no available versions", name);
}

std::vector<int64_t> Repository::ReadyVersions(const std::string& name) const {
  MutexLock lock(mutex_);
  std::vector<int64_t> ready;
  const auto found = models_.find(name);
  if (found == models_.end()) return ready;
  for (const auto& [version, state] : found->second.versions) {
    if (state.model != nullptr) ready.push_back(version);
  }
  return ready;
}

bool Repository::Knows(const std::string& name) const {
  MutexLock lock(mutex_);
  return models_.count(name) > 0;
}

std::vector<std::shared_ptr<Model>> Repository::ReadyModels() const {
  MutexLock lock(mutex_);
  std::vector<std::shared_ptr<Model>> ready;
  for (const auto& [name, entry] : models_) {
    for (const auto& [version, state] : entry.versions) {
      const bool listed = std::find(ready.begin(), ready.end(), state.model) != ready.end();
      if (state.model != nullptr && !listed) ready.push_back(state.model);
    }
  }
  return ready;
}

std::vector<IndexEntry> Repository::Index(bool ready_only) const {
  MutexLock lock(mutex_);
  std::vector<IndexEntry> index;
  for (const auto& [name, entry] : models_) {
    if (entry.versions.empty() && !ready_only) index.push_back({.name = name});
    for (const auto& [version, state] : entry.versions) {
      if (ready_only && state.model == nullptr) continue;
      index.push_back({name, version, state.state, state.reason});
    }
  }
  return index;
}

bool Repository::Ready() const {
  std::vector<std::shared_ptr<Model>> models;
  {
    MutexLock lock(mutex_);
    if (stopping_) return false;
    if (!options_.strict_readiness) return true;
    if (!started_) return false;
    for (const auto& [name, entry] : models_) {
      for (const auto& [version, state] : entry.versions) {
        const bool unloaded = state.state == "UNLOADING" || state.reason == "unloaded";
        if (unloaded) continue;
        if (state.model == nullptr && !entry.wanted) continue;
        if (state.model == nullptr) return false;
        models.push_back(state.model);
      }
    }
  }
  // Without the lock: an ensemble looks its models up.
  return std::all_of(models.begin(), models.end(),
                     [](const auto& model) { return model->ready(); });
}

int64_t Repository::num_in_flight() const {
  int64_t count = 0;
  for (const auto& model : ReadyModels()) count += model->num_in_flight();
  return count;
}

void Repository::Shutdown(int64_t drain_ms) {
  {
    MutexLock lock(mutex_);
    if (stopping_ && !control_.joinable()) return;
    stopping_ = true;
    changed_.NotifyAll();
  }
  control_.join();
  // Whoever waits for a load or unload that was not begun is told so.
  std::deque<std::function<void()>> left;
  {
    MutexLock lock(mutex_);
    left.swap(tasks_);
  }
  for (const auto& task : left) task();
  // The control thread is gone, so what it has replaced and not yet destroyed is safe to look at.
  std::vector<std::shared_ptr<Model>> models = ReadyModels();
  for (const Retired& retired : retired_) models.push_back(retired.model);
  const auto busy = [](const auto& model) { return model->num_in_flight() > 0; };
  const int64_t end_ns = NowNs() + drain_ms * 1000000;
  while (std::ranges::any_of(models, busy) && NowNs() < end_ns) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  for (const auto& model : models) {
    model->backend().Drain(std::max<int64_t>(0, (end_ns - NowNs()) / 1000000));
    if (model->num_in_flight() > 0) model->backend().Abort();
    model->StopScheduling();
  }
}

}  // namespace trireme::server
