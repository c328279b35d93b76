// SPDX-License-Identifier: Apache-2.0
#include <fmt/ranges.h>

#include <algorithm>

#include "base/mutex.h"
#include "base/status.h"
#include "models/builtin.h"
#include "trireme/model_family.h"

namespace trireme {
namespace {

class Registry {
 public:
  Registry() {
    for (auto& family : models::BuiltinFamilies()) families_.push_back(std::move(family));
  }

  void Add(std::unique_ptr<const ModelFamily> family) {
    MutexLock lock(mutex_);
    families_.push_back(std::move(family));
  }

  template <typename Predicate>
  const ModelFamily* FindLast(Predicate predicate) {
    MutexLock lock(mutex_);
    for (auto family = families_.rbegin(); family != families_.rend(); ++family) {
      if (predicate(**family)) return family->get();
    }
    return nullptr;
  }

  std::string KnownArchitectures() {
    MutexLock lock(mutex_);
    std::vector<std::string> names;
    for (const auto& family : families_) {
      for (const std::string& name : family->HfArchitectures()) names.push_back(name);
    }
    std::sort(names.begin(), names.end());
    names.erase(std::unique(names.begin(), names.end()), names.end());
    return fmt::format("{}", fmt::join(names, ", "));
  }

 private:
  Mutex mutex_;
  // Families are never removed, so pointers into the list stay valid.
  std::vector<std::unique_ptr<const ModelFamily>> families_ GUARDED_BY(mutex_);
};

Registry& TheRegistry() {
  static Registry* registry = new Registry;  // leaked: used until the process ends
  return *registry;
}

}  // namespace

void RegisterModelFamily(std::unique_ptr<const ModelFamily> family) {
  TheRegistry().Add(std::move(family));
}

StatusOr<const ModelFamily*> FindFamilyByHfArchitecture(std::span<const std::string> names) {
  const ModelFamily* family = TheRegistry().FindLast([&](const ModelFamily& candidate) {
    for (const std::string& known : candidate.HfArchitectures()) {
      if (std::find(names.begin(), names.end(), known) != names.end()) return true;
    }
    return false;
  });
  if (family != nullptr) return family;
  return NotFound("unknown model architecture '{}'; known: {}", fmt::join(names, ", "),
                  TheRegistry().KnownArchitectures());
}

StatusOr<const ModelFamily*> FindFamilyByConfig(const ModelConfig& config) {
  const ModelFamily* family = TheRegistry().FindLast(
      [&](const ModelFamily& candidate) { return candidate.Matches(config); });
  if (family != nullptr) return family;
  return NotFound("no model family builds checkpoints of architecture '{}'", config.architecture);
}

}  // namespace trireme
