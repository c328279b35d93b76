// SPDX-License-Identifier: Apache-2.0
// The waiting calls of a model and the rule by which they become batches. No threads, no clock: the
// owner locks and says what time it is.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string_view>
#include <vector>

#include "server/core/inference.h"
#include "server/repository/model_config.h"

namespace trireme::server {

// Why a batch was closed.
enum class BatchClose { kSingle, kPreferred, kFull, kShape, kDelay, kDrained };
std::string_view BatchCloseName(BatchClose reason);

class RequestQueue {
 public:
  using Call = std::shared_ptr<InferCall>;

  // Without dynamic batching every call is a batch of its own, first come first served.
  explicit RequestQueue(const ModelConfig& config);

  // UNAVAILABLE when the queue of the call's priority level is full.
  Status Push(const Call& call, int64_t now_ns);

  struct Next {
    std::vector<Call> batch;  // not empty: run it
    BatchClose reason = BatchClose::kSingle;
    int64_t wait_until_ns = 0;  // batch empty: look again then; 0: when a call arrives
  };
  // Takes the next batch, if one is due. Calls whose time is up are moved to `dropped` first, with
  // the status they end with.
  struct Dropped {
    Call call;
    Status status;
  };
  Next Take(int64_t now_ns, std::vector<Dropped>& dropped);
  void DropExpired(int64_t now_ns, std::vector<Dropped>& dropped);
  bool Remove(const InferCall& call);
  // Everything, in order, when the model stops.
  std::vector<Call> TakeAll();

  // The next queue timeout; 0: none.
  int64_t next_deadline_ns() const;
  bool has_timeouts() const { return has_timeouts_; }
  size_t size() const { return size_; }

 private:
  struct Item {
    Call call;
    int64_t arrival_ns = 0;
    int64_t deadline_ns = 0;  // 0: none
  };
  struct Level {
    QueuePolicy policy;
    std::deque<Item> items;
    std::deque<Item> late;  // past their deadline under DELAY: after `items`
  };

  Level& LevelOf(const InferCall& call);
  // Whether `call` may join a batch that begins with `first`.
  bool Joins(const InferRequest& first, const InferRequest& call) const;
  std::vector<Call> TakeFirst(size_t count);
  template <typename Visit>
  void ForEach(Visit visit) const;

  const ModelConfig& config_;
  const bool batching_;
  bool has_optional_inputs_ = false;
  bool has_timeouts_ = false;
  int64_t max_batch_ = 1;
  uint64_t default_level_ = 0;
  std::map<uint64_t, Level> levels_;
  size_t size_ = 0;
};

}  // namespace trireme::server
