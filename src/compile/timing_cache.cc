// SPDX-License-Identifier: Apache-2.0
#include "compile/timing_cache.h"

#include <nlohmann/json.hpp>

#include "base/mapped_file.h"

namespace trireme::compile {

using nlohmann::json;

Status TimingCache::Load(const std::string& path) {
  TRIREME_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, 64 << 20));
  const json object = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object() || !object.contains("times_us") || !object["times_us"].is_object()) {
    return InvalidArgument("'{}' is not a timing cache; remove it and build again", path);
  }
  for (const auto& [device, times] : object["times_us"].items()) {
    if (!times.is_object()) return InvalidArgument("'{}': '{}' is not an object", path, device);
    for (const auto& [key, time] : times.items()) {
      if (!time.is_number()) return InvalidArgument("'{}': time of '{}' is no number", path, key);
      times_us_[device][key] = time.get<double>();
    }
  }
  return OkStatus();
}

Status TimingCache::Save(const std::string& path) const {
  json object = {{"format", "trireme timing cache 1"}, {"times_us", json::object()}};
  for (const auto& [device, times] : times_us_) object["times_us"][device] = times;
  return WriteFile(path, object.dump(1) + "\n");
}

std::optional<double> TimingCache::Find(const std::string& key) const {
  const auto times = times_us_.find(device_);
  if (times == times_us_.end()) return std::nullopt;
  const auto time = times->second.find(key);
  if (time == times->second.end()) return std::nullopt;
  return time->second;
}

void TimingCache::Put(const std::string& key, double time_us) { times_us_[device_][key] = time_us; }

}  // namespace trireme::compile
