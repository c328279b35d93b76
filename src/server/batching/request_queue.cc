// SPDX-License-Identifier: Apache-2.0
#include "server/batching/request_queue.h"

#include <algorithm>

#include "base/status.h"

namespace trireme::server {
namespace {

int64_t SizeOf(const InferRequest& request) { return std::max<int64_t>(1, request.batch_size); }

}  // namespace

std::string_view BatchCloseName(BatchClose reason) {
  switch (reason) {
    case BatchClose::kSingle: return "single";
    case BatchClose::kPreferred: return "preferred";
    case BatchClose::kFull: return "full";
    case BatchClose::kShape: return "shape";
    case BatchClose::kDelay: return "delay";
    case BatchClose::kDrained: return "drained";
  }
  return "";
}

RequestQueue::RequestQueue(const ModelConfig& config)
    : config_(config), batching_(config.dynamic_batching.has_value()) {
  for (const TensorConfig& input : config.inputs) has_optional_inputs_ |= input.optional;
  if (!batching_) {
    levels_[0];
    return;
  }
  const DynamicBatching& batching = *config.dynamic_batching;
  max_batch_ = std::max(1, config.max_batch_size);
  default_level_ = batching.priority_levels > 0 ? batching.default_priority_level : 0;
  const uint64_t first = batching.priority_levels > 0 ? 1 : 0;
  for (uint64_t level = first; level <= batching.priority_levels; ++level) {
    const auto own = batching.priority_queue_policy.find(level);
    levels_[level].policy =
        own != batching.priority_queue_policy.end() ? own->second : batching.default_queue_policy;
    has_timeouts_ |= levels_[level].policy.default_timeout_us > 0;
  }
}

RequestQueue::Level& RequestQueue::LevelOf(const InferCall& call) {
  const auto found = levels_.find(call.request().priority);
  return found != levels_.end() ? found->second : levels_.at(default_level_);
}

Status RequestQueue::Push(const Call& call, int64_t now_ns) {
  Level& level = LevelOf(*call);
  const QueuePolicy& policy = level.policy;
  if (policy.max_queue_size > 0 &&
      level.items.size() + level.late.size() >= policy.max_queue_size) {
    return Unavailable("Exceeds maximum queue size");
  }
  uint64_t timeout_us = policy.default_timeout_us;
  const uint64_t own = call->request().timeout_us;
  if (policy.allow_timeout_override && own > 0 && own < timeout_us) timeout_us = own;
  const int64_t deadline = timeout_us > 0 ? now_ns + static_cast<int64_t>(timeout_us) * 1000 : 0;
  level.items.push_back({call, now_ns, deadline});
  ++size_;
  return OkStatus();
}

void RequestQueue::DropExpired(int64_t now_ns, std::vector<Dropped>& dropped) {
  if (!has_timeouts_) return;
  for (auto& [number, level] : levels_) {
    for (std::deque<Item>* queue : {&level.items, &level.late}) {
      std::deque<Item> kept;
      bool changed = false;
      for (Item& item : *queue) {
        const bool expired = item.deadline_ns > 0 && item.deadline_ns <= now_ns;
        if (expired && !level.policy.delay_on_timeout) {
          dropped.push_back({item.call, Unavailable("Request timeout expired")});
        } else if (expired) {
          item.deadline_ns = 0;
          level.late.push_back(std::move(item));
        } else {
          kept.push_back(item);
          continue;
        }
        changed = true;
      }
      if (changed && queue == &level.late) {
        *queue = std::move(kept);
      } else if (changed) {
        level.items = std::move(kept);
      }
    }
  }
  size_ = 0;
  for (const auto& [number, level] : levels_) size_ += level.items.size() + level.late.size();
}

bool RequestQueue::Remove(const InferCall& call) {
  for (auto& [number, level] : levels_) {
    for (std::deque<Item>* queue : {&level.items, &level.late}) {
      const auto found = std::find_if(queue->begin(), queue->end(),
                                      [&](const Item& item) { return item.call.get() == &call; });
      if (found == queue->end()) continue;
      queue->erase(found);
      --size_;
      return true;
    }
  }
  return false;
}

int64_t RequestQueue::next_deadline_ns() const {
  int64_t next = 0;
  for (const auto& [number, level] : levels_) {
    for (const Item& item : level.items) {
      if (item.deadline_ns > 0 && (next == 0 || item.deadline_ns < next)) next = item.deadline_ns;
    }
  }
  return next;
}

bool RequestQueue::Joins(const InferRequest& first, const InferRequest& call) const {
  if (has_optional_inputs_ && first.inputs.size() != call.inputs.size()) return false;
  for (const Tensor& input : first.inputs) {
    const Tensor* other = call.FindInput(input.name);
    if (other == nullptr) return false;
    const TensorConfig* declared = config_.FindInput(input.name);
    if (declared == nullptr || declared->allow_ragged_batch) continue;
    if (declared->is_shape_tensor && input.data != other->data) return false;
    if (input.shape.size() != other->shape.size()) return false;
    // All but the batch dimension.
    if (!std::equal(input.shape.begin() + 1, input.shape.end(), other->shape.begin() + 1)) {
      return false;
    }
  }
  return true;
}

template <typename Visit>
void RequestQueue::ForEach(Visit visit) const {
  for (const auto& [number, level] : levels_) {
    for (const std::deque<Item>* queue : {&level.items, &level.late}) {
      for (const Item& item : *queue) {
        if (!visit(item)) return;
      }
    }
  }
}

std::vector<RequestQueue::Call> RequestQueue::TakeFirst(size_t count) {
  std::vector<Call> calls;
  for (auto& [number, level] : levels_) {
    for (std::deque<Item>* queue : {&level.items, &level.late}) {
      while (!queue->empty() && calls.size() < count) {
        calls.push_back(std::move(queue->front().call));
        queue->pop_front();
      }
    }
  }
  size_ -= calls.size();
  return calls;
}

std::vector<RequestQueue::Call> RequestQueue::TakeAll() { return TakeFirst(size_); }

RequestQueue::Next RequestQueue::Take(int64_t now_ns, std::vector<Dropped>& dropped) {
  DropExpired(now_ns, dropped);
  if (size_ == 0) return {};
  if (!batching_) return {.batch = TakeFirst(1), .reason = BatchClose::kSingle};
  const DynamicBatching& batching = *config_.dynamic_batching;
  const auto& preferred = batching.preferred_batch_sizes;
  const int64_t largest =
      preferred.empty() ? max_batch_ : *std::max_element(preferred.begin(), preferred.end());

  int64_t total = 0;
  int64_t oldest_ns = now_ns;
  size_t count = 0;            // calls that fit together
  size_t preferred_count = 0;  // of them, those that make the largest preferred size
  bool closed = false;
  BatchClose reason = BatchClose::kDelay;
  const InferRequest* first = nullptr;
  ForEach([&](const Item& item) {
    const InferRequest& request = item.call->request();
    if (first == nullptr) first = &request;
    if (count > 0 && total + SizeOf(request) > max_batch_) {
      closed = true;
      reason = BatchClose::kFull;
    } else if (!Joins(*first, request)) {
      closed = true;
      reason = BatchClose::kShape;
    }
    if (closed) return false;
    total += SizeOf(request);
    ++count;
    oldest_ns = std::min(oldest_ns, item.arrival_ns);
    const bool hits = preferred.empty()
                          ? total == max_batch_
                          : std::find(preferred.begin(), preferred.end(), total) != preferred.end();
    if (hits) preferred_count = count;
    return true;
  });

  const int64_t due_ns = oldest_ns + static_cast<int64_t>(batching.max_queue_delay_us) * 1000;
  if (preferred_count > 0 && (batching.max_queue_delay_us == 0 || now_ns < due_ns)) {
    return {.batch = TakeFirst(preferred_count), .reason = BatchClose::kPreferred};
  }
  if (closed || total > largest) {
    return {.batch = TakeFirst(count), .reason = closed ? reason : BatchClose::kFull};
  }
  if (batching.max_queue_delay_us == 0) {
    return {.batch = TakeFirst(count), .reason = BatchClose::kDrained};
  }
  if (now_ns >= due_ns) return {.batch = TakeFirst(count), .reason = BatchClose::kDelay};
  const int64_t deadline = next_deadline_ns();
  return {.wait_until_ns = deadline > 0 ? std::min(due_ns, deadline) : due_ns};
}

}  // namespace trireme::server
