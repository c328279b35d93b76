// SPDX-License-Identifier: Apache-2.0
// Regions of POSIX shared memory that clients registered for their tensors. Thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "trireme/status.h"

namespace trireme::server {

struct SharedRegionInfo {
  std::string name;
  std::string key;
  uint64_t offset = 0;
  uint64_t byte_size = 0;
};

// Bytes of a region. The mapping lives as long as `owner`, so that a region can be unregistered
// while a request uses it.
struct SharedSpan {
  std::span<char> bytes;
  std::shared_ptr<const void> owner;
};

class SharedMemory {
 public:
  // Not allowed: every call is UNIMPLEMENTED and says which flag allows it.
  explicit SharedMemory(bool allowed) : allowed_(allowed) {}

  // ALREADY_EXISTS for a name in use; INVALID_ARGUMENT for a key that is not there or too small.
  Status Register(const SharedRegionInfo& info);
  // Unknown names are fine; "" is all of them.
  Status Unregister(const std::string& name);
  // "" is all of them.
  StatusOr<std::vector<SharedRegionInfo>> List(const std::string& name) const;

  StatusOr<SharedSpan> Find(const std::string& name, uint64_t offset, uint64_t byte_size) const;

 private:
  struct Region {
    SharedRegionInfo info;
    SharedSpan span;
  };
  Status CheckAllowed() const;

  const bool allowed_;
  mutable Mutex mutex_;
  std::map<std::string, Region> regions_ GUARDED_BY(mutex_);
};

}  // namespace trireme::server
