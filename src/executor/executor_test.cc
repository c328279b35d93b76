// SPDX-License-Identifier: Apache-2.0
// The executor with its threads, over the hash model.
#include "trireme/executor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <map>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "base/log.h"
#include "base/mutex.h"
#include "executor/executor_impl.h"
#include "executor/fake_session.h"
#include "executor/load_testing.h"

namespace trireme::executor {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::unique_ptr<Executor> MakeExecutor(const FakeSessionOptions& session = {},
                                       const ExecutorConfig& config = {}, int steps = 1) {
  SetLogLevel("off").ok();
  return ExecutorImpl::Create(std::make_unique<FakeSession>(session), config, steps).value();
}

// Long enough never to end by itself within a test: each step takes a while.
constexpr FakeSessionOptions kSlow = {.max_seq_len = 100'000 / 8,
                                      .step_time = std::chrono::microseconds(200)};

std::vector<Response> AwaitAll(Executor& executor, RequestId id) {
  std::vector<Response> all;
  while (all.empty() || !all.back().is_final) {
    auto responses = executor.AwaitResponses(id);
    if (responses.empty()) break;
    for (Response& response : responses) all.push_back(std::move(response));
  }
  return all;
}

TEST(Executor, AnswersARequestOnce) {
  auto executor = MakeExecutor();
  const RequestId id = executor->Enqueue({.prompt = {1, 2, 3}, .max_tokens = 5}).value();
  const std::vector<Response> responses = AwaitAll(*executor, id);
  ASSERT_EQ(responses.size(), 1u);
  EXPECT_TRUE(responses[0].is_final);
  EXPECT_TRUE(responses[0].is_sequence_final);
  EXPECT_EQ(responses[0].finish_reason, FinishReason::kLength);
  EXPECT_EQ(responses[0].tokens.size(), 5u);
  EXPECT_EQ(responses[0].num_prompt_tokens, 3);
  // It is closed now: nothing to wait for.
  EXPECT_THAT(executor->AwaitResponses(id), IsEmpty());
  EXPECT_THAT(executor->AwaitResponses(99), IsEmpty());
  EXPECT_EQ(executor->Totals().generated_tokens, 5);
  EXPECT_EQ(executor->KvCache().used_num_blocks, 0);
  EXPECT_GE(executor->LatestIterationStats().size(), 5u);
  EXPECT_THAT(executor->LatestIterationStats(), IsEmpty());
}

// Not of whoever reads the responses late.
TEST(Executor, TimesAreThoseOfTheSteps) {
  using Time = TokenTimes::Time;
  auto executor = MakeExecutor();
  for (const bool streaming : {true, false}) {
    const Time before = std::chrono::steady_clock::now();
    const RequestId id =
        executor->Enqueue({.prompt = {1, 2, 3}, .max_tokens = 12, .streaming = streaming}).value();
    while (executor->NumResponsesReady(id) < (streaming ? 12 : 1)) std::this_thread::yield();
    const Time read = std::chrono::steady_clock::now();
    Time last = before;
    for (const Response& response : AwaitAll(*executor, id)) {
      const TokenTimes& times = response.times;
      EXPECT_LE(before, times.arrival);
      EXPECT_LE(times.arrival, times.first);
      EXPECT_EQ(times.first < times.last, !streaming || last != before);
      EXPECT_LT(last, times.last);
      EXPECT_LE(times.last, read);
      last = times.last;
    }
  }
}

TEST(Executor, StreamsTheSameTokens) {
  auto executor = MakeExecutor();
  Request request{.prompt = {1, 2, 3}, .max_tokens = 12};
  const auto whole = AwaitAll(*executor, executor->Enqueue(request).value());
  request.streaming = true;
  std::vector<TokenId> streamed;
  const auto pieces = AwaitAll(*executor, executor->Enqueue(request).value());
  for (const Response& piece : pieces) {
    streamed.insert(streamed.end(), piece.tokens.begin(), piece.tokens.end());
  }
  EXPECT_EQ(pieces.size(), 12u);
  EXPECT_EQ(streamed, whole[0].tokens);
}

TEST(Executor, CallbacksGetEveryResponseAndMayEnqueue) {
  auto executor = MakeExecutor();
  std::promise<int> done;
  std::atomic<int> pieces = 0;
  Request request{.prompt = {4}, .max_tokens = 6, .streaming = true};
  auto second = [&](Response&& response) {
    ++pieces;
    if (response.is_final) done.set_value(pieces);
  };
  auto first = [&](Response&& response) {
    ++pieces;
    if (!response.is_final) return;
    EXPECT_TRUE(executor->Enqueue(request, second).ok());
  };
  ASSERT_TRUE(executor->Enqueue(request, first).ok());
  EXPECT_EQ(done.get_future().get(), 12);
  EXPECT_EQ(executor->NumResponsesReady(), 0);
}

TEST(Executor, AwaitWithoutIdCollectsFromAllAndTimesOut) {
  auto executor = MakeExecutor();
  EXPECT_THAT(executor->AwaitResponses(std::nullopt, milliseconds(5)), IsEmpty());
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(executor->Enqueue({.prompt = {i}, .max_tokens = 4}).ok());
  }
  int finals = 0;
  while (finals < 10) {
    for (const Response& response : executor->AwaitResponses()) finals += response.is_final;
  }
}

TEST(Executor, RefusesWhatCannotRun) {
  auto executor = MakeExecutor({.num_blocks = 4});
  EXPECT_THAT(executor->Enqueue({.prompt = {}, .max_tokens = 1}).status().ToString(),
              HasSubstr("prompt is empty"));
  EXPECT_THAT(executor->Enqueue({.prompt = {1}, .max_tokens = 17}).status().ToString(),
              HasSubstr("needs 5 KV blocks of 4 tokens, but the cache has 4"));
  EXPECT_TRUE(executor->Enqueue({.prompt = {1}, .max_tokens = 16}).ok());
  ExecutorConfig config;
  config.kv_cache.free_memory_fraction = 1.0;
  EXPECT_THAT(ExecutorImpl::Create(std::make_unique<FakeSession>(FakeSessionOptions{}), config)
                  .status()
                  .ToString(),
              HasSubstr("kv_cache_free_gpu_mem_fraction is 1"));
  EXPECT_THAT(
      ExecutorImpl::Create(std::make_unique<FakeSession>(FakeSessionOptions{.num_blocks = 0}), {})
          .status()
          .ToString(),
      HasSubstr("0 KV blocks"));
}

TEST(Executor, FullQueueIsRefusedAndFreedAgain) {
  auto executor = MakeExecutor({.num_blocks = 20'000,
                                .max_batch_size = 1,
                                .max_seq_len = kSlow.max_seq_len,
                                .step_time = kSlow.step_time},
                               {.max_queue_size = 2});
  const RequestId running = executor->Enqueue({.prompt = {1}, .max_tokens = 10'000}).value();
  while (executor->LatestIterationStats().empty()) std::this_thread::yield();
  const RequestId waiting = executor->Enqueue({.prompt = {1}, .max_tokens = 2}).value();
  ASSERT_TRUE(executor->Enqueue({.prompt = {1}, .max_tokens = 2}).ok());
  const Status refused = executor->Enqueue({.prompt = {1}, .max_tokens = 2}).status();
  EXPECT_EQ(refused.code(), StatusCode::kResourceExhausted);
  EXPECT_THAT(refused.ToString(), HasSubstr("max_queue_size"));
  executor->Cancel(waiting);
  AwaitAll(*executor, waiting);
  EXPECT_TRUE(executor->Enqueue({.prompt = {1}, .max_tokens = 2}).ok());
  executor->Cancel(running);
  EXPECT_EQ(AwaitAll(*executor, running).back().finish_reason, FinishReason::kCancelled);
}

TEST(Executor, TimeoutEndsARunningRequest) {
  auto executor = MakeExecutor(
      {.num_blocks = 20'000, .max_seq_len = kSlow.max_seq_len, .step_time = kSlow.step_time});
  const auto responses =
      AwaitAll(*executor,
               executor->Enqueue({.prompt = {1}, .max_tokens = 10'000, .timeout_ms = 20}).value());
  EXPECT_EQ(responses.back().finish_reason, FinishReason::kTimedOut);
  EXPECT_TRUE(responses.back().error.ok());
}

TEST(Executor, ShutdownDrainsOrCancels) {
  auto drained = MakeExecutor();
  const RequestId id = drained->Enqueue({.prompt = {1}, .max_tokens = 100}).value();
  drained->Shutdown(milliseconds::max());
  auto responses = drained->AwaitResponses(id);
  ASSERT_EQ(responses.size(), 1u);
  EXPECT_EQ(responses[0].tokens.size(), 100u);
  EXPECT_EQ(drained->Enqueue({.prompt = {1}, .max_tokens = 1}).status().code(),
            StatusCode::kUnavailable);
  EXPECT_THAT(drained->AwaitResponses(), IsEmpty());

  auto cancelled = MakeExecutor(
      {.num_blocks = 20'000, .max_seq_len = kSlow.max_seq_len, .step_time = kSlow.step_time});
  const RequestId other = cancelled->Enqueue({.prompt = {1}, .max_tokens = 10'000}).value();
  cancelled->Shutdown(milliseconds(0));
  responses = cancelled->AwaitResponses(other);
  ASSERT_EQ(responses.size(), 1u);
  EXPECT_EQ(responses[0].finish_reason, FinishReason::kCancelled);
}

TEST(Executor, DestructionWakesWhoeverWaits) {
  auto executor = MakeExecutor(
      {.num_blocks = 20'000, .max_seq_len = kSlow.max_seq_len, .step_time = kSlow.step_time});
  std::promise<FinishReason> reason;
  ASSERT_TRUE(executor
                  ->Enqueue({.prompt = {1}, .max_tokens = 10'000},
                            [&](Response&& r) { reason.set_value(r.finish_reason); })
                  .ok());
  executor.reset();
  EXPECT_EQ(reason.get_future().get(), FinishReason::kCancelled);
}

TEST(Executor, FatalErrorFailsEveryRequestAndStays) {
  auto executor = MakeExecutor({.fail_at_forward = 3});
  std::vector<RequestId> ids;
  for (int i = 0; i < 3; ++i) {
    ids.push_back(executor->Enqueue({.prompt = {1}, .max_tokens = 50}).value_or(0));
  }
  for (RequestId id : ids) {
    if (id == 0) continue;  // enqueued after the failure
    const auto responses = AwaitAll(*executor, id);
    ASSERT_EQ(responses.size(), 1u);
    EXPECT_THAT(responses[0].error.ToString(), HasSubstr("the device burns"));
  }
  EXPECT_FALSE(executor->IsHealthy());
  EXPECT_THAT(executor->Enqueue({.prompt = {1}, .max_tokens = 1}).status().ToString(),
              HasSubstr("the device burns"));
}

TEST(Executor, KeepsTheLatestIterationsOnly) {
  auto executor = MakeExecutor({}, {.iter_stats_max_iterations = 3});
  AwaitAll(*executor, executor->Enqueue({.prompt = {1}, .max_tokens = 10}).value());
  const auto stats = executor->LatestIterationStats();
  ASSERT_EQ(stats.size(), 3u);
  EXPECT_EQ(stats[0].iter + 2, stats[2].iter);
}

TEST(Executor, TwoThousandRequestsWithCancellationsLeaveNothing) {
  const int threads_before = NumThreads();
  for (const int steps : {1, 2}) {
    auto executor = MakeExecutor({.num_blocks = 40},
                                 {.capacity_policy = CapacityPolicy::kMaxUtilization,
                                  .kv_cache = {.enable_block_reuse = true}},
                                 steps);
    ExpectNothingLeftBehind(*executor, FakeSessionOptions{}.vocab_size);
  }
  EXPECT_EQ(NumThreads(), threads_before);
}

}  // namespace
}  // namespace trireme::executor
