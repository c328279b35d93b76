// SPDX-License-Identifier: Apache-2.0
#include "server/core/response_cache.h"

#include <algorithm>

namespace trireme::server {
namespace {

constexpr uint64_t kEntryBytes = 256;  // of bookkeeping, roughly

void AppendField(std::string& key, std::string_view field) {
  const uint64_t size = field.size();
  key.append(reinterpret_cast<const char*>(&size), sizeof(size));
  key.append(field);
}

}  // namespace

std::string ResponseCache::Key(const std::string& model, int64_t version,
                               const InferRequest& request) {
  std::string key;
  AppendField(key, model);
  AppendField(key, std::to_string(version));
  // In any order, they are the same request.
  std::vector<const Tensor*> inputs;
  for (const Tensor& input : request.inputs) inputs.push_back(&input);
  std::sort(inputs.begin(), inputs.end(),
            [](const Tensor* a, const Tensor* b) { return a->name < b->name; });
  for (const Tensor* input : inputs) {
    AppendField(key, input->name);
    AppendField(key, DataTypeName(input->type));
    AppendField(key, ShapeText(input->shape));
    AppendField(key, input->data);
  }
  std::vector<std::string> outputs = request.outputs;
  std::sort(outputs.begin(), outputs.end());
  for (const std::string& output : outputs) AppendField(key, output);
  return key;
}

std::optional<InferResponse> ResponseCache::Find(const std::string& key) {
  MutexLock lock(mutex_);
  const auto found = by_key_.find(key);
  if (found == by_key_.end()) return std::nullopt;
  entries_.splice(entries_.begin(), entries_, found->second);
  return found->second->response;
}

void ResponseCache::Insert(const std::string& key, const InferResponse& response) {
  Entry entry{key, response, kEntryBytes + key.size()};
  for (Tensor& output : entry.response.outputs) {
    entry.bytes += output.data.size() + output.name.size();
    if (entry.bytes > max_bytes_) return;
    // A copy of its own: the response's bytes may be a part of something much larger.
    output = MakeTensor(output.name, output.type, output.shape, std::string(output.data));
  }
  if (entry.bytes > max_bytes_) return;
  MutexLock lock(mutex_);
  if (by_key_.count(key) > 0) return;
  while (used_bytes_ + entry.bytes > max_bytes_) {
    used_bytes_ -= entries_.back().bytes;
    by_key_.erase(entries_.back().key);
    entries_.pop_back();
  }
  used_bytes_ += entry.bytes;
  entries_.push_front(std::move(entry));
  by_key_[entries_.front().key] = entries_.begin();
}

uint64_t ResponseCache::used_bytes() const {
  MutexLock lock(mutex_);
  return used_bytes_;
}

}  // namespace trireme::server
