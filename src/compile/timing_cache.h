// SPDX-License-Identifier: Apache-2.0
// Timing cache: measured times of tactics, kept in model.cache between builds. Not thread-safe.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "base/status.h"

namespace trireme::compile {

class TimingCache {
 public:
  // `device` names processor and library version; times of other devices are kept but not found.
  explicit TimingCache(std::string device) : device_(std::move(device)) {}

  // Adds the times of a cache file. A file that cannot be read as one is an error naming it.
  Status Load(const std::string& path);
  Status Save(const std::string& path) const;

  // `key` is an op signature with its tactic and row count.
  std::optional<double> Find(const std::string& key) const;
  void Put(const std::string& key, double time_us);

 private:
  std::string device_;
  std::map<std::string, std::map<std::string, double>> times_us_;  // by device, then key
};

}  // namespace trireme::compile
