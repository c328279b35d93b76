// SPDX-License-Identifier: Apache-2.0
// The loop without threads: the same requests alone, batched, chunked, paused and with prefix
// reuse give the same bits; nothing is lost and nothing leaks.
#include "executor/engine_loop.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "base/log.h"
#include "executor/fake_session.h"

namespace trireme::executor {
namespace {

using ::testing::IsEmpty;

// Everything a client sees of one sequence, streamed pieces joined.
struct Result {
  std::vector<TokenId> tokens;
  std::vector<float> log_probs;
  std::vector<float> context_logits;
  std::vector<float> generation_logits;
  FinishReason reason = FinishReason::kNotFinished;
  Status error;
  int num_sequence_finals = 0;
  friend bool operator==(const Result&, const Result&) = default;
};
using Results = std::map<std::pair<RequestId, int>, Result>;

class LoopRunner {
 public:
  LoopRunner(const FakeSessionOptions& session, const LoopOptions& options)
      : session_(session, counters_), loop_(session_, options) {
    SetLogLevel("warning").ok();
  }

  void Add(RequestId id, const Request& request) {
    auto active = std::make_unique<ActiveRequest>();
    active->id = id;
    active->arrival = Clock::now();
    active->request = request;
    if (request.timeout_ms > 0) {
      active->deadline = active->arrival + std::chrono::milliseconds(request.timeout_ms);
    }
    loop_.Add(std::move(active));
  }

  void Turn() {
    if (Status status = loop_.Advance(); !status.ok()) loop_.Fail(status);
    loop_.CheckInvariants();
    Collect();
  }

  void RunToEnd() {
    for (int turn = 0; loop_.HasWork(); ++turn) {
      ASSERT_LT(turn, 1'000'000);
      Turn();
    }
    Collect();
    EXPECT_EQ(loop_.cache_stats().used_num_blocks, 0);
  }

  EngineLoop& loop() { return loop_; }
  const Results& results() const { return results_; }
  const FakeSessionCounters& counters() const { return *counters_; }
  int num_finals(RequestId id) { return num_finals_[id]; }

 private:
  void Collect() {
    for (Response& response : loop_.TakeResponses()) {
      Result& result = results_[{response.request_id, response.sequence_index}];
      EXPECT_EQ(result.num_sequence_finals, 0) << "a response after the final one";
      const auto append = [](auto& to, const auto& from) {
        to.insert(to.end(), from.begin(), from.end());
      };
      append(result.tokens, response.tokens);
      append(result.log_probs, response.log_probs);
      append(result.context_logits, response.context_logits);
      append(result.generation_logits, response.generation_logits);
      result.reason = response.finish_reason;
      result.error = response.error;
      result.num_sequence_finals += response.is_sequence_final;
      num_finals_[response.request_id] += response.is_final;
    }
  }

  std::shared_ptr<FakeSessionCounters> counters_ = std::make_shared<FakeSessionCounters>();
  FakeSession session_;
  EngineLoop loop_;
  Results results_;
  std::map<RequestId, int> num_finals_;
};

std::vector<TokenId> RandomTokens(std::mt19937_64& rng, int n, int vocab_size = 61) {
  std::vector<TokenId> tokens(n);
  for (TokenId& token : tokens) token = static_cast<TokenId>(rng() % vocab_size);
  return tokens;
}

// A request that uses a random mixture of everything a request can ask for.
Request RandomRequest(std::mt19937_64& rng) {
  const auto chance = [&](int one_in) { return rng() % one_in == 0; };
  Request request;
  request.prompt = RandomTokens(rng, 1 + static_cast<int>(rng() % 60));
  request.max_tokens = 1 + static_cast<int>(rng() % 60);
  request.streaming = chance(2);
  request.sampling.seed = rng();
  request.sampling.temperature = chance(2) ? 1.0f : 0.7f;
  if (chance(2)) request.sampling.top_p = 0.9f;
  if (chance(3)) request.sampling.frequency_penalty = 0.3f;
  if (chance(8)) request.sampling.num_return_sequences = 2;
  if (chance(2)) request.end_id = 7;
  if (chance(4)) request.sampling.min_tokens = 1 + static_cast<int>(rng() % request.max_tokens);
  if (chance(4)) request.stop_words = {RandomTokens(rng, 1), RandomTokens(rng, 2)};
  if (chance(4)) request.bad_words = {RandomTokens(rng, 1), RandomTokens(rng, 2)};
  if (chance(4)) request.embedding_bias.assign(61, 0.5f);
  request.output.return_log_probs = chance(2);
  request.output.return_context_logits = chance(4);
  request.output.return_generation_logits = chance(4);
  return request;
}

std::vector<Request> RandomRequests(int n, uint64_t seed) {
  std::mt19937_64 rng(seed);
  std::vector<Request> requests;
  for (int i = 0; i < n; ++i) requests.push_back(RandomRequest(rng));
  return requests;
}

Results RunEachAlone(const std::vector<Request>& requests, int window = 0) {
  Results all;
  for (size_t i = 0; i < requests.size(); ++i) {
    LoopRunner runner({.max_num_tokens = 128, .window = window}, {});
    runner.Add(i + 1, requests[i]);
    runner.RunToEnd();
    all.insert(runner.results().begin(), runner.results().end());
  }
  return all;
}

// Tokens that must be computed once: each position but that of the last sampled token, which is
// the end id that is not emitted, or the last emitted one.
int64_t TokensToCompute(const std::vector<Request>& requests, const Results& results) {
  int64_t total = 0;
  for (const auto& [key, result] : results) {
    const int64_t sampled = static_cast<int64_t>(result.tokens.size()) +
                            (result.reason == FinishReason::kEndId ? 1 : 0);
    total += static_cast<int64_t>(requests[key.first - 1].prompt.size()) + sampled - 1;
  }
  return total;
}

struct Variant {
  const char* name;
  FakeSessionOptions session;
  LoopOptions loop;
};

void ExpectSameResults(const std::vector<Request>& requests, const Results& expected,
                       const Variant& variant, int min_pauses) {
  SCOPED_TRACE(variant.name);
  LoopRunner runner(variant.session, variant.loop);
  for (size_t i = 0; i < requests.size(); ++i) {
    runner.Add(i + 1, requests[i]);
    if (i % 3 == 0) runner.Turn();
  }
  runner.RunToEnd();
  ASSERT_EQ(runner.results().size(), expected.size());
  for (const auto& [key, result] : expected) {
    EXPECT_TRUE(runner.results().at(key) == result)
        << "request " << key.first << " sequence " << key.second;
    EXPECT_EQ(runner.num_finals(key.first), 1);
  }
  const ExecutorTotals& totals = runner.loop().totals();
  EXPECT_GE(totals.pauses, min_pauses);
  EXPECT_EQ(totals.requests_completed, static_cast<int64_t>(requests.size()));
  if (variant.loop.enable_block_reuse || variant.loop.max_steps_in_flight > 1) return;
  EXPECT_EQ(runner.counters().computed_tokens,
            TokensToCompute(requests, expected) + totals.recomputed_tokens);
  EXPECT_EQ(totals.recomputed_tokens > 0, totals.pauses > 0);
}

TEST(EngineLoop, SixtyFourMixedRequestsGiveTheSameBitsHoweverTheyAreScheduled) {
  const std::vector<Request> requests = RandomRequests(64, 1);
  const Results alone = RunEachAlone(requests);
  std::map<FinishReason, int> reasons;
  for (const auto& [key, result] : alone) ++reasons[result.reason];
  EXPECT_GE(reasons[FinishReason::kEndId], 3);
  EXPECT_GE(reasons[FinishReason::kStopWords], 3);
  EXPECT_GE(reasons[FinishReason::kLength], 3);

  const FakeSessionOptions roomy = {.num_blocks = 300, .max_batch_size = 16, .max_num_tokens = 256};
  const FakeSessionOptions tight = {.num_blocks = 34, .max_batch_size = 16, .max_num_tokens = 64};
  const auto chunk = [](int max_num_tokens) {
    return FakeSessionOptions{
        .num_blocks = 300, .max_batch_size = 8, .max_num_tokens = max_num_tokens};
  };
  const auto equal = ChunkingPolicy::kEqualProgress;
  const auto max_utilization = CapacityPolicy::kMaxUtilization;
  const auto static_batch = CapacityPolicy::kStaticBatch;
  ExpectSameResults(requests, alone, {"batched", roomy, {}}, 0);
  ExpectSameResults(requests, alone, {"whole contexts", roomy, {.chunked_context = false}}, 0);
  ExpectSameResults(requests, alone, {"static batch", roomy, {.capacity_policy = static_batch}}, 0);
  ExpectSameResults(requests, alone, {"chunks up to 12", chunk(12), {}}, 0);
  ExpectSameResults(requests, alone, {"chunks up to 20", chunk(20), {}}, 0);
  ExpectSameResults(requests, alone, {"chunks up to 36", chunk(36), {}}, 0);
  ExpectSameResults(requests, alone, {"one token a step", chunk(1), {}}, 0);
  ExpectSameResults(requests, alone, {"equal progress", chunk(24), {.chunking_policy = equal}}, 0);
  ExpectSameResults(requests, alone, {"few blocks, never paused", tight, {}}, 0);
  ExpectSameResults(requests, alone,
                    {"few blocks, paused", tight, {.capacity_policy = max_utilization}}, 20);
  ExpectSameResults(requests, alone,
                    {"paused, whole contexts",
                     tight,
                     {.capacity_policy = max_utilization, .chunked_context = false}},
                    20);
  ExpectSameResults(requests, alone, {"two steps", roomy, {.max_steps_in_flight = 2}}, 0);
  ExpectSameResults(
      requests, alone,
      {"two steps, paused", tight, {.capacity_policy = max_utilization, .max_steps_in_flight = 2}},
      20);
  ExpectSameResults(
      requests, alone,
      {"three steps, reuse, paused",
       tight,
       {.capacity_policy = max_utilization, .enable_block_reuse = true, .max_steps_in_flight = 3}},
      20);
}

// Every layer has a window: blocks that it has left are given back, also while steps that may name
// them are in flight, and nobody notices.
TEST(EngineLoop, WindowedRequestsGiveTheSameBitsHoweverTheyAreScheduled) {
  const int window = 10;
  const std::vector<Request> requests = RandomRequests(64, 3);
  const Results alone = RunEachAlone(requests, window);
  EXPECT_NE(alone, RunEachAlone(requests));
  const auto session = [&](int num_blocks, int max_num_tokens) {
    return FakeSessionOptions{.num_blocks = num_blocks,
                              .max_batch_size = 16,
                              .max_num_tokens = max_num_tokens,
                              .window = window};
  };
  const auto max_utilization = CapacityPolicy::kMaxUtilization;
  ExpectSameResults(requests, alone, {"batched", session(300, 256), {}}, 0);
  ExpectSameResults(requests, alone, {"chunks up to 12", session(300, 12), {}}, 0);
  ExpectSameResults(requests, alone, {"few blocks", session(12, 20), {}}, 0);
  ExpectSameResults(requests, alone, {"two steps", session(12, 20), {.max_steps_in_flight = 2}}, 0);
  ExpectSameResults(
      requests, alone,
      {"paused", session(20, 20), {.capacity_policy = max_utilization, .max_steps_in_flight = 2}},
      1);
  ExpectSameResults(
      requests, alone,
      {"three steps, reuse, paused",
       session(20, 20),
       {.capacity_policy = max_utilization, .enable_block_reuse = true, .max_steps_in_flight = 3}},
      1);
}

// A sequence ten times as long as its window never holds more blocks than window and step need.
TEST(EngineLoop, AWindowBoundsTheBlocksOfALongSequence) {
  const int window = 24, step = 16, block_size = 4;
  std::mt19937_64 rng(9);
  const Request request{.prompt = RandomTokens(rng, 140), .max_tokens = 110};
  const auto most_blocks = [&](int kv_window, bool reuse) {
    LoopRunner runner(
        {.block_size = block_size, .max_num_tokens = step, .max_seq_len = 256, .window = kv_window},
        {.enable_block_reuse = reuse});
    int most = 0;
    // The second time the beginning of the prompt is remembered.
    for (const RequestId id : {1, 2}) {
      runner.Add(id, request);
      while (runner.loop().HasWork()) {
        runner.Turn();
        most = std::max(most, runner.loop().cache_stats().used_num_blocks);
      }
      EXPECT_EQ(runner.results().at({id, 0}).tokens.size(), 110u);
      EXPECT_EQ(runner.results().at({id, 0}).tokens, runner.results().at({1, 0}).tokens);
    }
    EXPECT_EQ(runner.loop().cache_stats().used_num_blocks, 0);
    return most;
  };
  EXPECT_GE(most_blocks(0, false), 240 / block_size);
  EXPECT_LE(most_blocks(window, false), (window + step) / block_size + 1);
  EXPECT_LE(most_blocks(window, true), (window + step + window) / block_size + 1);
}

// Prompts that begin alike, so that the prefix cache has something to find.
TEST(EngineLoop, PrefixReuseGivesTheSameBitsAndComputesLess) {
  std::mt19937_64 rng(5);
  const std::vector<TokenId> system = RandomTokens(rng, 40);
  std::vector<Request> requests = RandomRequests(48, 6);
  for (Request& request : requests) {
    request.prompt.resize(1 + request.prompt.size() % 20);
    request.prompt.insert(request.prompt.begin(), system.begin(), system.end());
    request.max_tokens = 1 + request.max_tokens % 20;
    request.sampling.min_tokens = 0;
  }
  const Results alone = RunEachAlone(requests);
  const int64_t without_reuse = TokensToCompute(requests, alone);
  for (const int num_blocks : {200, 40}) {
    for (const int steps : {1, 2}) {
      LoopRunner runner({.num_blocks = num_blocks, .max_batch_size = 8},
                        {.enable_block_reuse = true, .max_steps_in_flight = steps});
      for (size_t i = 0; i < requests.size(); ++i) runner.Add(i + 1, requests[i]);
      runner.RunToEnd();
      for (const auto& [key, result] : alone) {
        EXPECT_TRUE(runner.results().at(key) == result) << "request " << key.first;
      }
      EXPECT_GT(runner.loop().cache_stats().reused_blocks, 100);
      EXPECT_LT(runner.counters().computed_tokens, without_reuse * 3 / 4);
    }
  }
}

TEST(EngineLoop, SecondRequestReportsCachedPromptTokens) {
  LoopRunner runner({}, {.enable_block_reuse = true});
  Request request;
  for (int i = 0; i < 21; ++i) request.prompt.push_back(i);
  request.max_tokens = 3;
  runner.Add(1, request);
  runner.RunToEnd();
  runner.Add(2, request);
  int cached = -1;
  while (runner.loop().HasWork()) {
    ASSERT_TRUE(runner.loop().Advance().ok());
    for (const Response& response : runner.loop().TakeResponses()) {
      cached = response.num_cached_tokens;
    }
  }
  EXPECT_EQ(cached, 20);
}

TEST(EngineLoop, TwoStepsAreInFlightWhenAllowed) {
  LoopRunner runner({}, {.max_steps_in_flight = 2});
  runner.Add(1, {.prompt = {1, 2, 3}, .max_tokens = 20});
  runner.RunToEnd();
  EXPECT_EQ(runner.counters().max_steps_in_flight, 2);
}

TEST(EngineLoop, ReturnSequencesAreRunsWithRisingSeeds) {
  Request request{.prompt = {1, 2, 3}, .max_tokens = 12};
  request.sampling.top_p = 1.0f;
  request.sampling.seed = 40;
  request.sampling.num_return_sequences = 3;
  LoopRunner together({}, {});
  together.Add(1, request);
  together.RunToEnd();
  request.sampling.num_return_sequences = 1;
  for (int i = 0; i < 3; ++i) {
    LoopRunner single({}, {});
    request.sampling.seed = 40 + i;
    single.Add(1, request);
    single.RunToEnd();
    EXPECT_EQ(together.results().at({1, i}).tokens, single.results().at({1, 0}).tokens);
  }
  EXPECT_NE(together.results().at({1, 0}).tokens, together.results().at({1, 1}).tokens);
}

TEST(EngineLoop, InputCanBeIncluded) {
  Request request{.prompt = {1, 2, 3}, .max_tokens = 5};
  request.streaming = true;
  LoopRunner without({}, {}), with({}, {});
  without.Add(1, request);
  without.RunToEnd();
  request.output.exclude_input_from_output = false;
  with.Add(1, request);
  with.RunToEnd();
  std::vector<TokenId> expected = {1, 2, 3};
  const auto& tokens = without.results().at({1, 0}).tokens;
  expected.insert(expected.end(), tokens.begin(), tokens.end());
  EXPECT_EQ(with.results().at({1, 0}).tokens, expected);
}

TEST(EngineLoop, LogitsAreThoseOfTheContextAndOfTheTokens) {
  Request request{.prompt = {1, 2, 3, 4, 5, 6}, .max_tokens = 4};
  request.output = {
      .return_log_probs = true, .return_context_logits = true, .return_generation_logits = true};
  LoopRunner runner({}, {});
  runner.Add(1, request);
  runner.RunToEnd();
  const Result& result = runner.results().at({1, 0});
  ASSERT_EQ(result.context_logits.size(), 6u * 61);
  ASSERT_EQ(result.generation_logits.size(), 4u * 61);
  EXPECT_EQ(result.log_probs.size(), 4u);
  for (int i = 0; i < 4; ++i) {
    const auto row = result.generation_logits.begin() + i * 61;
    EXPECT_EQ(std::max_element(row, row + 61) - row, result.tokens[i]);  // greedy
  }
  // The last context row chose the first token.
  EXPECT_TRUE(std::equal(result.context_logits.end() - 61, result.context_logits.end(),
                         result.generation_logits.begin()));
}

TEST(EngineLoop, CancelAnswersOnceInAnyState) {
  for (const int steps : {1, 2}) {
    LoopRunner runner({.max_batch_size = 1}, {.max_steps_in_flight = steps});
    runner.Add(1, {.prompt = {1, 2, 3}, .max_tokens = 50, .streaming = true});
    runner.Add(2, {.prompt = {4, 5}, .max_tokens = 50});
    for (int i = 0; i < 6; ++i) runner.Turn();
    runner.loop().Cancel(2);  // waiting
    runner.loop().Cancel(1);  // running, perhaps under a step
    runner.loop().Cancel(1);
    runner.loop().Cancel(77);
    runner.RunToEnd();
    EXPECT_EQ(runner.num_finals(1), 1);
    EXPECT_EQ(runner.num_finals(2), 1);
    EXPECT_EQ(runner.results().at({1, 0}).reason, FinishReason::kCancelled);
    EXPECT_GE(runner.results().at({1, 0}).tokens.size(), 3u);
    EXPECT_THAT(runner.results().at({2, 0}).tokens, IsEmpty());
  }
}

TEST(EngineLoop, DeadlinesEndRequestsWithTheTokensSoFar) {
  LoopRunner runner({.max_batch_size = 1}, {});
  runner.Add(1, {.prompt = {1}, .max_tokens = 50, .timeout_ms = 1000});
  runner.Add(2, {.prompt = {1}, .max_tokens = 50, .timeout_ms = 1'000'000});
  for (int i = 0; i < 5; ++i) runner.Turn();
  runner.loop().ExpireDeadlines(Clock::now() + std::chrono::seconds(2));
  runner.RunToEnd();
  EXPECT_EQ(runner.results().at({1, 0}).reason, FinishReason::kTimedOut);
  EXPECT_THAT(runner.results().at({1, 0}).tokens.size(),
              testing::AllOf(testing::Ge(1u), testing::Lt(50u)));
  EXPECT_EQ(runner.results().at({2, 0}).tokens.size(), 50u);
}

TEST(EngineLoop, FailureAnswersEveryRequestWithItsCause) {
  for (const int steps : {1, 2}) {
    LoopRunner runner({.max_batch_size = 2, .fail_at_forward = 5}, {.max_steps_in_flight = steps});
    for (int i = 1; i <= 4; ++i) runner.Add(i, {.prompt = {1, 2, 3}, .max_tokens = 40});
    runner.RunToEnd();
    runner.Add(5, {.prompt = {1}, .max_tokens = 1});
    runner.RunToEnd();
    for (int i = 1; i <= 5; ++i) {
      EXPECT_EQ(runner.num_finals(i), 1);
      EXPECT_EQ(runner.results().at({i, 0}).error.code(), StatusCode::kInternal);
    }
  }
}

TEST(EngineLoop, HigherPriorityStartsFirst) {
  LoopRunner runner({.max_batch_size = 1}, {});
  runner.Add(1, {.prompt = {1}, .max_tokens = 30});
  runner.Turn();
  runner.Add(2, {.prompt = {2}, .max_tokens = 30, .streaming = true, .priority = 0.1f});
  runner.Add(3, {.prompt = {3}, .max_tokens = 5, .streaming = true, .priority = 0.9f});
  while (runner.num_finals(3) == 0) {
    runner.Turn();
    EXPECT_FALSE(runner.results().contains({2, 0}));
  }
  runner.RunToEnd();
}

TEST(EngineLoop, IterationsAddUp) {
  LoopRunner runner({.max_num_tokens = 16}, {});
  runner.Add(1, {.prompt = std::vector<TokenId>(30, 3), .max_tokens = 7});
  runner.Add(2, {.prompt = std::vector<TokenId>(9, 4), .max_tokens = 3});
  runner.RunToEnd();
  int64_t context = 0, generation = 0, completed = 0, admitted = 0;
  int64_t iter = 0;
  for (const IterationStats& stats : runner.loop().TakeIterations()) {
    EXPECT_EQ(stats.iter, iter++);
    EXPECT_LE(stats.num_ctx_tokens + stats.num_gen_tokens, 16);
    EXPECT_GT(stats.cpu_mem_usage_bytes, 0);
    context += stats.num_ctx_tokens;
    generation += stats.num_gen_tokens;
    completed += stats.num_completed_requests;
    admitted += stats.num_new_active_requests;
  }
  EXPECT_EQ(context, 39);
  EXPECT_EQ(generation, 6 + 2);
  EXPECT_EQ(completed, 2);
  EXPECT_EQ(admitted, 2);
}

// Requests come and go at random, with cancellations at every moment, under every policy.
TEST(EngineLoopRandom, ArrivalsAndCancellationsLeaveNothingBehind) {
  for (uint64_t round = 0; round < 24; ++round) {
    SCOPED_TRACE(round);
    std::mt19937_64 rng(round);
    LoopRunner runner({.num_blocks = 33 + static_cast<int>(rng() % 40),
                       .max_batch_size = 6,
                       .max_num_tokens = 4 + static_cast<int>(rng() % 60)},
                      {.capacity_policy = static_cast<CapacityPolicy>(round % 3),
                       .chunking_policy = static_cast<ChunkingPolicy>(rng() % 2),
                       .enable_block_reuse = rng() % 2 == 0,
                       .max_steps_in_flight = 1 + static_cast<int>(rng() % 3)});
    RequestId last_id = 0;
    for (int i = 0; i < 4'000; ++i) {
      if (rng() % 16 == 0) runner.Add(++last_id, RandomRequest(rng));
      if (rng() % 24 == 0) runner.loop().Cancel(1 + rng() % (last_id + 1));
      runner.Turn();
      ASSERT_FALSE(HasFailure()) << "turn " << i;
    }
    runner.RunToEnd();
    for (RequestId id = 1; id <= last_id; ++id) EXPECT_EQ(runner.num_finals(id), 1);
    for (const auto& [key, result] : runner.results()) EXPECT_TRUE(result.error.ok());
    EXPECT_EQ(runner.loop().num_unstarted_requests(), 0);
  }
}

// One request meets logits that are no numbers: all its sequences end with the reason, whether one
// step or two are in flight, and those of other lengths run on.
TEST(EngineLoop, LogitsThatAreNotFiniteEndTheRequestAlone) {
  for (int steps_in_flight : {1, 2}) {
    FakeSessionOptions options;
    options.bad_logits_after = 12;
    LoopRunner runner(options, {.max_steps_in_flight = steps_in_flight});
    Request bad;
    bad.prompt = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
    bad.max_tokens = 6;
    bad.sampling.top_k = 5;
    bad.sampling.num_return_sequences = 2;
    Request good = bad;
    good.prompt.resize(3);
    good.max_tokens = 8;  // ends before it has 12 tokens
    runner.Add(1, bad);
    runner.Add(2, good);
    runner.RunToEnd();
    EXPECT_EQ(runner.num_finals(1), 1);
    EXPECT_EQ(runner.num_finals(2), 1);
    for (const auto& [key, result] : runner.results()) {
      EXPECT_EQ(result.num_sequence_finals, 1);
      if (key.first == 2) {
        EXPECT_TRUE(result.error.ok()) << result.error.ToString();
        EXPECT_EQ(result.tokens.size(), 8u);
        continue;
      }
      EXPECT_EQ(result.error.code(), StatusCode::kInternal);
      EXPECT_THAT(std::string(result.error.message()), ::testing::HasSubstr("not finite after 12"));
      EXPECT_EQ(result.tokens.size(), 2u);
    }
  }
}

}  // namespace
}  // namespace trireme::executor
