// SPDX-License-Identifier: Apache-2.0
#include "server/batching/request_queue.h"

#include <gtest/gtest.h>

namespace trireme::server {
namespace {

constexpr int64_t kUs = 1000;

ModelConfig Config(DynamicBatching batching, int max_batch_size = 8) {
  ModelConfig config;
  config.name = "m";
  config.max_batch_size = max_batch_size;
  config.inputs.push_back({.name = "x", .type = DataType::kInt32, .dims = {-1}});
  config.dynamic_batching = std::move(batching);
  return config;
}

RequestQueue::Call Call(int64_t batch, int64_t length = 1, uint64_t priority = 0,
                        uint64_t timeout_us = 0) {
  InferRequest request;
  request.batch_size = batch;
  request.priority = priority;
  request.timeout_us = timeout_us;
  request.inputs.push_back(
      MakeTensor("x", DataType::kInt32, {batch, length}, std::string(4 * batch * length, 'x')));
  return std::make_shared<InferCall>(std::move(request), [](InferCall&, InferResponse&&) {});
}

class Queue {
 public:
  explicit Queue(ModelConfig config) : config_(std::move(config)), queue_(config_) {}
  void Push(const RequestQueue::Call& call, int64_t now_us) {
    ASSERT_TRUE(queue_.Push(call, now_us * kUs).ok());
  }
  size_t Take(int64_t now_us) {
    last_ = queue_.Take(now_us * kUs, dropped_);
    return last_.batch.size();
  }
  RequestQueue& queue() { return queue_; }
  const RequestQueue::Next& last() const { return last_; }
  std::vector<RequestQueue::Dropped>& dropped() { return dropped_; }

 private:
  const ModelConfig config_;
  RequestQueue queue_;
  RequestQueue::Next last_;
  std::vector<RequestQueue::Dropped> dropped_;
};

TEST(RequestQueueTest, WithoutBatchingEveryCallIsAlone) {
  ModelConfig config = Config({});
  config.dynamic_batching.reset();
  Queue queue(config);
  queue.Push(Call(2), 0);
  queue.Push(Call(2), 0);
  EXPECT_EQ(queue.Take(1), 1u);
  EXPECT_EQ(queue.Take(1), 1u);
  EXPECT_EQ(queue.Take(1), 0u);
}

TEST(RequestQueueTest, WithoutDelayWhatIsThereGoes) {
  Queue queue(Config({}));
  for (int i = 0; i < 3; ++i) queue.Push(Call(2), 0);
  EXPECT_EQ(queue.Take(0), 3u);
  EXPECT_EQ(queue.last().reason, BatchClose::kDrained);
}

TEST(RequestQueueTest, ACallIsNeverSplitAndNeverOverfills) {
  Queue queue(Config({.max_queue_delay_us = 100}));
  queue.Push(Call(5), 0);
  queue.Push(Call(4), 0);
  EXPECT_EQ(queue.Take(1), 1u);
  EXPECT_EQ(queue.last().reason, BatchClose::kFull);
  EXPECT_EQ(queue.Take(1), 0u);  // 4 of 8: waits
  EXPECT_EQ(queue.last().wait_until_ns, 100 * kUs);
  EXPECT_EQ(queue.Take(100), 1u);
  EXPECT_EQ(queue.last().reason, BatchClose::kDelay);
}

TEST(RequestQueueTest, TheLargestPreferredSizeReachedGoesNow) {
  Queue queue(Config({.preferred_batch_sizes = {2, 4}, .max_queue_delay_us = 100}));
  queue.Push(Call(1), 0);
  EXPECT_EQ(queue.Take(1), 0u);
  for (int i = 0; i < 4; ++i) queue.Push(Call(1), 1);
  EXPECT_EQ(queue.Take(2), 4u);
  EXPECT_EQ(queue.last().reason, BatchClose::kPreferred);
  EXPECT_EQ(queue.Take(2), 0u);
  EXPECT_EQ(queue.Take(101), 1u);
}

TEST(RequestQueueTest, OtherShapesCloseABatchUnlessRagged) {
  Queue strict(Config({}));
  strict.Push(Call(1, 1), 0);
  strict.Push(Call(1, 2), 0);
  EXPECT_EQ(strict.Take(0), 1u);
  EXPECT_EQ(strict.last().reason, BatchClose::kShape);
  ModelConfig config = Config({});
  config.inputs[0].allow_ragged_batch = true;
  Queue ragged(config);
  ragged.Push(Call(1, 1), 0);
  ragged.Push(Call(1, 2), 0);
  EXPECT_EQ(ragged.Take(0), 2u);
}

TEST(RequestQueueTest, LowerLevelsGoFirst) {
  Queue queue(Config({.priority_levels = 2, .default_priority_level = 2}, 1));
  const auto low = Call(1);  // the default level
  const auto high = Call(1, 1, 1);
  queue.Push(low, 0);
  queue.Push(high, 0);
  ASSERT_EQ(queue.Take(0), 1u);
  EXPECT_EQ(queue.last().batch[0], high);
  ASSERT_EQ(queue.Take(0), 1u);
  EXPECT_EQ(queue.last().batch[0], low);
}

TEST(RequestQueueTest, PoliciesRejectDelayAndLimit) {
  DynamicBatching batching;
  batching.default_queue_policy = {
      .default_timeout_us = 100, .allow_timeout_override = true, .max_queue_size = 2};
  Queue reject(Config(batching, 1));
  reject.Push(Call(1), 0);
  reject.Push(Call(1, 1, 0, 50), 0);  // smaller than the default: taken
  const Status full = reject.queue().Push(Call(1), 0);
  EXPECT_EQ(full.code(), StatusCode::kUnavailable);
  EXPECT_EQ(full.message(), "Exceeds maximum queue size");
  reject.queue().DropExpired(60 * kUs, reject.dropped());
  ASSERT_EQ(reject.dropped().size(), 1u);
  EXPECT_EQ(reject.dropped()[0].status.message(), "Request timeout expired");
  EXPECT_EQ(reject.queue().next_deadline_ns(), 100 * kUs);

  batching.default_queue_policy.delay_on_timeout = true;
  Queue delay(Config(batching, 1));
  const auto late = Call(1);
  const auto fresh = Call(1);
  delay.Push(late, 0);
  delay.Push(fresh, 90);
  ASSERT_EQ(delay.Take(120), 1u);
  EXPECT_EQ(delay.last().batch[0], fresh);
  ASSERT_EQ(delay.Take(120), 1u);
  EXPECT_EQ(delay.last().batch[0], late);
  EXPECT_TRUE(delay.dropped().empty());
}

TEST(RequestQueueTest, RemovedCallsAreGone) {
  Queue queue(Config({}));
  const auto call = Call(1);
  queue.Push(call, 0);
  EXPECT_TRUE(queue.queue().Remove(*call));
  EXPECT_FALSE(queue.queue().Remove(*call));
  EXPECT_EQ(queue.Take(0), 0u);
  EXPECT_EQ(queue.queue().size(), 0u);
}

}  // namespace
}  // namespace trireme::server
