// SPDX-License-Identifier: Apache-2.0
// Responses kept for requests that come again: least recently used goes first when the cache is
// full. Thread-safe.
#pragma once

#include <list>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>

#include "base/mutex.h"
#include "server/core/inference.h"

namespace trireme::server {

class ResponseCache {
 public:
  explicit ResponseCache(uint64_t max_bytes) : max_bytes_(max_bytes) {}

  // What a response depends on: model, version, inputs and wanted outputs, byte for byte.
  static std::string Key(const std::string& model, int64_t version, const InferRequest& request);

  std::optional<InferResponse> Find(const std::string& key) EXCLUDES(mutex_);
  // Copies the tensors. A response larger than the cache is not kept.
  void Insert(const std::string& key, const InferResponse& response) EXCLUDES(mutex_);

  uint64_t used_bytes() const EXCLUDES(mutex_);

 private:
  struct Entry {
    std::string key;
    InferResponse response;
    uint64_t bytes = 0;
  };

  const uint64_t max_bytes_;
  mutable Mutex mutex_;
  std::list<Entry> entries_ GUARDED_BY(mutex_);  // most recent first
  std::unordered_map<std::string_view, std::list<Entry>::iterator> by_key_ GUARDED_BY(mutex_);
  uint64_t used_bytes_ GUARDED_BY(mutex_) = 0;
};

}  // namespace trireme::server
