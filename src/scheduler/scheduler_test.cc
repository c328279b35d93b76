// SPDX-License-Identifier: Apache-2.0
// Capacity policies and token budget: single cases, then a toy serving loop that runs random
// sequences through both for a million operations, checking every plan.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <random>
#include <vector>

#include "scheduler/capacity.h"
#include "scheduler/token_budget.h"

namespace trireme::scheduler {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

CapacityPlan Plan(CapacityPolicy policy, int available, int slots,
                  const std::vector<RunningNeed>& running,
                  const std::vector<WaitingNeed>& waiting) {
  return PlanCapacity({.policy = policy,
                       .available_blocks = available,
                       .free_slots = slots,
                       .running = running,
                       .waiting = waiting});
}

TEST(Capacity, NoEvictReservesTheWorstCase) {
  const std::vector<RunningNeed> running = {
      {.held_blocks = 1, .next_blocks = 1, .final_blocks = 4}};
  const std::vector<WaitingNeed> waiting = {{1, 3}, {1, 2}};
  EXPECT_EQ(Plan(CapacityPolicy::kGuaranteedNoEvict, 5, 8, running, waiting).num_admitted, 0);
  EXPECT_EQ(Plan(CapacityPolicy::kGuaranteedNoEvict, 6, 8, running, waiting).num_admitted, 1);
  EXPECT_EQ(Plan(CapacityPolicy::kGuaranteedNoEvict, 8, 8, running, waiting).num_admitted, 2);
  EXPECT_EQ(Plan(CapacityPolicy::kGuaranteedNoEvict, 8, 1, running, waiting).num_admitted, 1);
}

TEST(Capacity, NobodyOvertakes) {
  EXPECT_EQ(Plan(CapacityPolicy::kGuaranteedNoEvict, 5, 8, {}, {{6, 6}, {1, 1}}).num_admitted, 0);
  EXPECT_EQ(Plan(CapacityPolicy::kMaxUtilization, 5, 8, {}, {{6, 6}, {1, 1}}).num_admitted, 0);
}

TEST(Capacity, StaticBatchWaitsUntilTheBatchIsDone) {
  const std::vector<WaitingNeed> waiting = {{1, 1}, {1, 1}, {1, 1}};
  EXPECT_EQ(Plan(CapacityPolicy::kStaticBatch, 9, 8, {{1, 1, 1, 1}}, waiting).num_admitted, 0);
  EXPECT_EQ(Plan(CapacityPolicy::kStaticBatch, 9, 2, {}, waiting).num_admitted, 2);
}

TEST(Capacity, MaxUtilizationPausesTheYoungestAndNeverTheOldest) {
  const RunningNeed full = {
      .held_blocks = 2, .next_blocks = 3, .final_blocks = 9, .freed_blocks = 2};
  EXPECT_THAT(Plan(CapacityPolicy::kMaxUtilization, 3, 8, {full, full, full}, {}).paused,
              IsEmpty());
  EXPECT_THAT(Plan(CapacityPolicy::kMaxUtilization, 2, 8, {full, full, full}, {}).paused,
              ElementsAre(2));
  const RunningNeed shared = {.held_blocks = 2, .next_blocks = 3, .final_blocks = 9};
  EXPECT_THAT(Plan(CapacityPolicy::kMaxUtilization, 0, 8, {shared, shared, shared}, {}).paused,
              ElementsAre(2, 1));
}

TEST(Capacity, MaxUtilizationAdmitsByKnownTokensUnlessSomebodyWasPaused) {
  const RunningNeed full = {
      .held_blocks = 2, .next_blocks = 3, .final_blocks = 9, .freed_blocks = 2};
  EXPECT_EQ(
      Plan(CapacityPolicy::kMaxUtilization, 4, 8, {full}, {{2, 9}, {1, 9}, {1, 9}}).num_admitted,
      2);
  EXPECT_EQ(Plan(CapacityPolicy::kMaxUtilization, 1, 8, {full, full}, {{1, 1}}).num_admitted, 0);
}

std::vector<int> Tokens(int budget, const std::vector<BudgetSequence>& sequences,
                        ChunkingPolicy policy = ChunkingPolicy::kFirstComeFirstServed,
                        bool chunked = true) {
  return PlanTokens({.max_num_tokens = budget,
                     .chunked_context = chunked,
                     .policy = policy,
                     .chunk_unit = 4,
                     .sequences = sequences});
}

TEST(TokenBudget, GenerationFirstThenTheOldestContext) {
  EXPECT_THAT(Tokens(12, {{false, 9}, {true}, {false, 9}, {true}}), ElementsAre(9, 1, 0, 1));
  EXPECT_THAT(Tokens(16, {{false, 9}, {true}, {false, 9}, {true}}), ElementsAre(9, 1, 4, 1));
  EXPECT_THAT(Tokens(9, {{false, 9}, {true}, {false, 2}, {true}}), ElementsAre(4, 1, 0, 1));
  EXPECT_THAT(Tokens(1, {{true}, {true}}), ElementsAre(1, 0));
}

TEST(TokenBudget, EqualProgressDealsUnitsInTurn) {
  const auto policy = ChunkingPolicy::kEqualProgress;
  EXPECT_THAT(Tokens(12, {{false, 20}, {false, 20}}, policy), ElementsAre(8, 4));
  EXPECT_THAT(Tokens(16, {{false, 20}, {false, 3}, {false, 20}}, policy), ElementsAre(8, 3, 4));
}

TEST(TokenBudget, WithoutChunkingContextsAreTakenWhole) {
  const auto policy = ChunkingPolicy::kFirstComeFirstServed;
  EXPECT_THAT(Tokens(12, {{false, 9}, {false, 9}, {false, 1}}, policy, false),
              ElementsAre(9, 0, 0));
  EXPECT_THAT(Tokens(12, {{false, 13}}, policy, false), ElementsAre(12));
}

TEST(TokenBudget, ChunkUnitLeavesRoomBesideAFullBatch) {
  EXPECT_EQ(ChunkUnit(64, 8192, 256), 64);
  EXPECT_EQ(ChunkUnit(64, 72, 8), 64);
  EXPECT_EQ(ChunkUnit(64, 71, 8), 32);
  EXPECT_EQ(ChunkUnit(64, 8, 8), 1);
}

// A model of the executor with block counts only.
class ToyLoop {
 public:
  ToyLoop(uint64_t seed, CapacityPolicy policy) : rng_(seed), policy_(policy) {
    max_num_tokens_ = 1 + Below(40);
    max_batch_size_ = 1 + Below(8);
    num_blocks_ = 8 + Below(24);
    chunked_ = Below(4) != 0;
    chunking_ =
        Below(2) == 0 ? ChunkingPolicy::kEqualProgress : ChunkingPolicy::kFirstComeFirstServed;
    chunk_unit_ = ChunkUnit(kBlockSize, max_num_tokens_, max_batch_size_);
  }

  void Run(int num_steps) {
    for (int step = 0; step < num_steps; ++step) {
      if (waiting_.size() < 10 && Below(2) == 0) Arrive();
      if (!running_.empty() && Below(20) == 0) running_.erase(running_.begin() + PickRunning());
      Step();
      ASSERT_FALSE(::testing::Test::HasFailure()) << "step " << step;
    }
    for (int step = 0; !running_.empty() || !waiting_.empty(); ++step) {
      ASSERT_LT(step, 100'000) << "the queue does not drain";
      Step();
      ASSERT_FALSE(::testing::Test::HasFailure()) << "draining, step " << step;
    }
  }

  int64_t pauses = 0;
  int64_t operations = 0;
  int64_t chunks = 0;

 private:
  static constexpr int kBlockSize = 4;
  struct Sequence {
    int64_t arrival = 0;
    int known = 0;     // prompt and generated tokens
    int computed = 0;  // of them, in the cache
    int final_length = 0;
    int held = 0;
  };

  int Below(int n) { return static_cast<int>(rng_() % n); }
  int PickRunning() { return Below(static_cast<int>(running_.size())); }
  static int Blocks(int tokens) { return (tokens + kBlockSize - 1) / kBlockSize; }
  int Available() const {
    int available = num_blocks_;
    for (const Sequence& sequence : running_) available -= sequence.held;
    return available;
  }

  void Arrive() {
    Sequence sequence{.arrival = ++arrivals_, .known = 1 + Below(20)};
    sequence.final_length = std::min(sequence.known + 1 + Below(20), num_blocks_ * kBlockSize);
    waiting_.push_back(sequence);
  }

  void Step() {
    if (running_.empty() && waiting_.empty()) return;
    ++operations;
    std::vector<RunningNeed> running;
    std::vector<WaitingNeed> waiting;
    for (const Sequence& s : running_) {
      running.push_back({s.held, Blocks(s.known), Blocks(s.final_length), s.held});
    }
    for (const Sequence& s : waiting_) waiting.push_back({Blocks(s.known), Blocks(s.final_length)});
    const bool was_empty = running_.empty();
    const CapacityPlan plan =
        PlanCapacity({.policy = policy_,
                      .available_blocks = Available(),
                      .free_slots = max_batch_size_ - static_cast<int>(running_.size()),
                      .running = running,
                      .waiting = waiting});
    Apply(plan, was_empty);
    if (!running_.empty()) Compute();
  }

  void Apply(const CapacityPlan& plan, bool was_empty) {
    ASSERT_TRUE(plan.paused.empty() || policy_ == CapacityPolicy::kMaxUtilization);
    ASSERT_TRUE(plan.num_admitted == 0 || was_empty || policy_ != CapacityPolicy::kStaticBatch);
    ASSERT_TRUE(plan.num_admitted > 0 || !was_empty || waiting_.empty());
    for (int index : plan.paused) {
      ASSERT_GT(index, 0);
      ASSERT_EQ(index, static_cast<int>(running_.size()) - 1);
      ++pauses;
      Sequence paused = running_.back();
      paused.held = paused.computed = 0;
      running_.pop_back();
      waiting_.push_front(paused);
    }
    for (int i = 0; i < plan.num_admitted; ++i) {
      running_.push_back(waiting_.front());
      waiting_.pop_front();
    }
    ASSERT_LE(static_cast<int>(running_.size()), max_batch_size_);
  }

  void Compute() {
    std::vector<BudgetSequence> sequences;
    for (const Sequence& s : running_) {
      const bool generating = s.computed > 0 && s.computed == s.known - 1;
      sequences.push_back({generating, s.known - s.computed});
    }
    const std::vector<int> tokens = PlanTokens({.max_num_tokens = max_num_tokens_,
                                                .chunked_context = chunked_,
                                                .policy = chunking_,
                                                .chunk_unit = chunk_unit_,
                                                .sequences = sequences});
    CheckTokens(sequences, tokens);
    for (size_t i = 0; i < tokens.size(); ++i) {
      Sequence& s = running_[i];
      if (tokens[i] == 0) continue;
      s.computed += tokens[i];
      s.held = std::max(s.held, Blocks(s.computed));
      if (s.computed == s.known) ++s.known;
    }
    ASSERT_GE(Available(), 0) << "more blocks used than there are";
    std::erase_if(running_, [](const Sequence& s) { return s.known > s.final_length; });
  }

  void CheckTokens(const std::vector<BudgetSequence>& sequences, const std::vector<int>& tokens) {
    int total = 0;
    bool generation_left_out = false;
    bool context_served = false;
    for (size_t i = 0; i < tokens.size(); ++i) {
      total += tokens[i];
      if (sequences[i].generating) {
        ASSERT_LE(tokens[i], 1);
        generation_left_out |= tokens[i] == 0;
        continue;
      }
      context_served |= tokens[i] > 0;
      ASSERT_LE(tokens[i], sequences[i].remaining_tokens);
      if (tokens[i] < sequences[i].remaining_tokens) {
        ASSERT_EQ(tokens[i] % chunk_unit_, 0);
        chunks += tokens[i] > 0;
      }
    }
    ASSERT_GE(total, 1) << "a step without progress";
    ASSERT_LE(total, max_num_tokens_);
    ASSERT_FALSE(generation_left_out && context_served);
  }

  std::mt19937_64 rng_;
  CapacityPolicy policy_;
  ChunkingPolicy chunking_;
  bool chunked_;
  int max_num_tokens_, max_batch_size_, num_blocks_, chunk_unit_;
  int64_t arrivals_ = 0;
  std::vector<Sequence> running_;
  std::deque<Sequence> waiting_;
};

TEST(SchedulerRandom, MillionOperations) {
  int64_t operations = 0, pauses = 0, chunks = 0;
  for (uint64_t round = 0; operations < 1'000'000; ++round) {
    ToyLoop loop(round, static_cast<CapacityPolicy>(round % 3));
    loop.Run(2'000);
    ASSERT_FALSE(HasFailure()) << "round " << round;
    operations += loop.operations;
    pauses += loop.pauses;
    chunks += loop.chunks;
  }
  EXPECT_GT(pauses, 1'000);
  EXPECT_GT(chunks, 10'000);
}

}  // namespace
}  // namespace trireme::scheduler
