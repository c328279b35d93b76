// SPDX-License-Identifier: Apache-2.0
// Block pool, prefix tree and their facade: single cases, then long random operation sequences
// against a shadow that remembers what every block was filled with.
#include "kv_cache/kv_cache.h"

#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <vector>

namespace trireme::kv_cache {
namespace {

std::vector<int32_t> Iota(int n, int32_t from = 0) {
  std::vector<int32_t> tokens(n);
  for (int i = 0; i < n; ++i) tokens[i] = from + i;
  return tokens;
}

TEST(BlockPool, GivesEveryUsableBlockOnceAndTakesThemBack) {
  BlockPool pool(5, 1);
  std::set<BlockId> ids;
  {
    std::vector<BlockHandle> held;
    for (int i = 0; i < 4; ++i) {
      held.push_back(pool.Allocate());
      ASSERT_TRUE(held.back().valid());
      ids.insert(held.back().id());
    }
    EXPECT_FALSE(pool.Allocate().valid());
    BlockHandle shared = held[0].Share();
    held.clear();
    EXPECT_EQ(pool.num_free(), 3);
  }
  EXPECT_EQ(ids, (std::set<BlockId>{1, 2, 3, 4}));
  EXPECT_EQ(pool.num_free(), 4);
  EXPECT_EQ(pool.num_allocations(), 4);
}

TEST(BlockPool, BlockReleasedDuringAStepWaitsForItsEnd) {
  BlockPool pool(1);
  BlockHandle block = pool.Allocate();
  pool.BeginStep();
  pool.BeginStep();
  block.Reset();
  EXPECT_EQ(pool.num_quarantined(), 1);
  EXPECT_FALSE(pool.Allocate().valid());
  pool.EndStep();  // the newer step may name it too
  EXPECT_FALSE(pool.Allocate().valid());
  pool.EndStep();
  EXPECT_TRUE(pool.Allocate().valid());
}

TEST(KvCache, ReusesWholeBlocksOfFinishedSequencesOnly) {
  KvCache cache({.num_blocks = 8, .block_size = 4, .enable_reuse = true});
  const std::vector<int32_t> tokens = Iota(11);
  BlockTable first;
  EXPECT_EQ(cache.MatchPrefix({}, tokens, first), 0);
  ASSERT_TRUE(cache.Grow(first, 11));
  EXPECT_EQ(first.num_blocks(), 3);
  std::vector<BlockId> ids;
  for (const auto& block : first.blocks()) ids.push_back(block.id());
  cache.Remember({}, tokens, first);
  first.Clear();
  EXPECT_EQ(cache.num_available_blocks(), 8);

  BlockTable second;
  EXPECT_EQ(cache.MatchPrefix({}, tokens, second), 8);
  EXPECT_EQ(second.blocks()[0].id(), ids[0]);
  EXPECT_EQ(second.blocks()[1].id(), ids[1]);
  EXPECT_EQ(cache.num_available_blocks(), 6);
  EXPECT_EQ(cache.Stats().reused_blocks, 2);

  BlockTable exact;  // one token must stay to be computed
  EXPECT_EQ(cache.MatchPrefix({}, std::span(tokens).first(8), exact), 4);
  BlockTable other_tenant;
  EXPECT_EQ(cache.MatchPrefix({.salt = 1}, tokens, other_tenant), 0);
  BlockTable other_adapter;
  EXPECT_EQ(cache.MatchPrefix({.lora_id = 1}, tokens, other_adapter), 0);
  cache.CheckInvariants();
}

TEST(KvCache, WithoutReuseNothingIsRemembered) {
  KvCache cache({.num_blocks = 4, .block_size = 4, .enable_reuse = false});
  BlockTable table;
  ASSERT_TRUE(cache.Grow(table, 8));
  cache.Remember({}, Iota(8), table);
  table.Clear();
  EXPECT_EQ(cache.MatchPrefix({}, Iota(9), table), 0);
}

TEST(KvCache, GivesUpTheBlockUnusedForLongest) {
  KvCache cache({.num_blocks = 3, .block_size = 2, .enable_reuse = true});
  for (int32_t from : {100, 200, 300}) {
    BlockTable table;
    ASSERT_TRUE(cache.Grow(table, 2));
    cache.Remember({}, Iota(2, from), table);
  }
  {
    BlockTable touched;
    EXPECT_EQ(cache.MatchPrefix({}, Iota(3, 100), touched), 2);
  }
  BlockTable fresh;
  ASSERT_TRUE(cache.Grow(fresh, 2));
  BlockTable found, lost;
  EXPECT_EQ(cache.MatchPrefix({}, Iota(3, 100), found), 2);
  EXPECT_EQ(cache.MatchPrefix({}, Iota(3, 200), lost), 0);
}

TEST(KvCache, LowPriorityGoesFirst) {
  KvCache cache({.num_blocks = 2, .block_size = 2, .enable_reuse = true});
  for (int32_t from : {100, 200}) {
    BlockTable table;
    ASSERT_TRUE(cache.Grow(table, 2));
    cache.Remember({}, Iota(2, from), table, from == 100 ? 0.9f : 0.1f);
  }
  BlockTable fresh;
  ASSERT_TRUE(cache.Grow(fresh, 2));
  BlockTable found;
  EXPECT_EQ(cache.MatchPrefix({}, Iota(3, 100), found), 2);
}

TEST(KvCache, EqualPromptsComputedSideBySideEndUpSharing) {
  KvCache cache({.num_blocks = 4, .block_size = 2, .enable_reuse = true});
  BlockTable a, b;
  ASSERT_TRUE(cache.Grow(a, 4));
  ASSERT_TRUE(cache.Grow(b, 4));
  a.MarkSent();
  b.MarkSent();
  cache.Remember({}, Iota(4), a);
  cache.Remember({}, Iota(4), b);
  EXPECT_EQ(a.blocks()[1].id(), b.blocks()[1].id());
  EXPECT_EQ(a.num_sent(), 2);
  EXPECT_EQ(b.num_sent(), 0);  // the session must hear of the swap
  EXPECT_EQ(cache.num_available_blocks(), 2);
  EXPECT_EQ(cache.BlocksFreedBy(a), 0);
  a.Clear();
  EXPECT_EQ(cache.BlocksFreedBy(b), 2);
}

TEST(KvCache, GrowIsAllOrNothing) {
  KvCache cache({.num_blocks = 3, .block_size = 2});
  BlockTable a, b;
  ASSERT_TRUE(cache.Grow(a, 4));
  EXPECT_FALSE(cache.Grow(b, 4));
  EXPECT_EQ(b.num_blocks(), 0);
  EXPECT_EQ(cache.num_available_blocks(), 1);
}

// Sequences over a three-letter alphabet come, grow, are remembered and go, while steps begin and
// end. The shadow knows for every block the whole prefix it was filled with.
class RandomOperations {
 public:
  RandomOperations(uint64_t seed, int num_blocks, bool reuse)
      : rng_(seed),
        cache_({.num_blocks = num_blocks,
                .num_reserved = 1,
                .block_size = kBlockSize,
                .enable_reuse = reuse}),
        content_(num_blocks) {}

  void Run(int num_operations) {
    for (int i = 0; i < num_operations; ++i) {
      while (!Operate()) {  // what cannot be done now is no operation
      }
      cache_.CheckInvariants();
      ASSERT_FALSE(::testing::Test::HasFailure()) << "operation " << i;
    }
    while (!steps_.empty()) EndStep();
    sequences_.clear();
    cache_.CheckInvariants();
    EXPECT_EQ(cache_.num_available_blocks(), cache_.num_usable_blocks());
  }

  int64_t reused_blocks() const { return cache_.Stats().reused_blocks; }
  int64_t failed_grows() const { return failed_grows_; }

 private:
  static constexpr int kBlockSize = 3;
  struct Sequence {
    int64_t serial = 0;
    PrefixKey key;
    std::vector<int32_t> tokens;
    BlockTable table;
  };

  int Below(int n) { return static_cast<int>(rng_() % n); }

  // Whether the operation that was drawn could be done.
  bool Operate() {
    const int drawn = Below(10);
    const bool begins = drawn <= 1 && sequences_.size() < 6;
    const bool has_sequence = drawn >= 2 && drawn <= 7 && !sequences_.empty();
    const bool begins_step = drawn == 8 && steps_.size() < 2;
    const bool ends_step = drawn == 9 && !steps_.empty();
    if (begins) Begin();
    if (has_sequence && drawn <= 5) Extend();
    if (has_sequence && drawn == 6) Remember();
    if (has_sequence && drawn == 7) End();
    if (begins_step) BeginStep();
    if (ends_step) EndStep();
    return begins || has_sequence || begins_step || ends_step;
  }

  void Begin() {
    auto sequence = std::make_unique<Sequence>();
    sequence->serial = ++num_begun_;
    sequence->key.salt = Below(2);
    std::vector<int32_t> prompt(1 + Below(14));
    for (int32_t& token : prompt) token = Below(8) == 0;
    const int cached = cache_.MatchPrefix(sequence->key, prompt, sequence->table);
    ASSERT_LT(cached, static_cast<int>(prompt.size()));
    sequence->tokens.assign(prompt.begin(), prompt.begin() + cached);
    ExpectContents(*sequence);
    if (!cache_.Grow(sequence->table, static_cast<int>(prompt.size()))) {
      ++failed_grows_;
      return;
    }
    for (size_t i = cached; i < prompt.size(); ++i) Write(*sequence, prompt[i]);
    sequences_.push_back(std::move(sequence));
  }

  void Extend() {
    Sequence& sequence = *sequences_[Below(static_cast<int>(sequences_.size()))];
    const int available = cache_.num_available_blocks();
    if (!cache_.Grow(sequence.table, static_cast<int>(sequence.tokens.size()) + 1)) {
      // Idle blocks may be refused only while a step may still name them.
      ASSERT_TRUE(available == 0 || !steps_.empty());
      ++failed_grows_;
      return;
    }
    Write(sequence, Below(8) == 0);
    ExpectContents(sequence);
  }

  void Write(Sequence& sequence, int32_t token) {
    const size_t index = sequence.tokens.size() / kBlockSize;
    ASSERT_LT(index, sequence.table.blocks().size());
    const BlockId id = sequence.table.blocks()[index].id();
    ASSERT_GE(id, 1);
    for (const auto& step : steps_) {
      ASSERT_TRUE(!step.contains(id) || step.at(id) == sequence.serial) << "written under a step";
    }
    for (const auto& other : sequences_) {
      if (other.get() == &sequence) continue;
      for (const auto& block : other->table.blocks()) ASSERT_NE(block.id(), id);
    }
    sequence.tokens.push_back(token);
    content_[id] = {sequence.key, sequence.tokens};
  }

  void ExpectContents(const Sequence& sequence) {
    for (size_t i = 0; i < sequence.tokens.size(); i += kBlockSize) {
      const auto& [key, prefix] = content_[sequence.table.blocks()[i / kBlockSize].id()];
      ASSERT_TRUE(key == sequence.key);
      const size_t end = std::min(sequence.tokens.size(), i + kBlockSize);
      ASSERT_EQ(prefix,
                std::vector<int32_t>(sequence.tokens.begin(), sequence.tokens.begin() + end));
    }
  }

  void Remember() {
    Sequence& sequence = *sequences_[Below(static_cast<int>(sequences_.size()))];
    cache_.Remember(sequence.key, sequence.tokens, sequence.table, Below(3) * 0.5f);
    ExpectContents(sequence);
  }

  void End() {
    const int index = Below(static_cast<int>(sequences_.size()));
    const int available = cache_.num_available_blocks();
    const int freed = cache_.BlocksFreedBy(sequences_[index]->table);
    sequences_.erase(sequences_.begin() + index);
    if (!steps_.empty()) return;
    ASSERT_EQ(cache_.num_available_blocks(), available + freed);
  }

  void BeginStep() {
    std::map<BlockId, int64_t> named;
    for (const auto& sequence : sequences_) {
      for (const auto& block : sequence->table.blocks()) named[block.id()] = sequence->serial;
    }
    steps_.push_back(std::move(named));
    cache_.BeginStep();
  }

  void EndStep() {
    steps_.pop_front();
    cache_.EndStep();
  }

  std::mt19937_64 rng_;
  KvCache cache_;
  std::vector<std::pair<PrefixKey, std::vector<int32_t>>> content_;
  std::deque<std::map<BlockId, int64_t>> steps_;
  std::vector<std::unique_ptr<Sequence>> sequences_;
  int64_t num_begun_ = 0;
  int64_t failed_grows_ = 0;
};

TEST(KvCacheRandom, MillionOperations) {
  int64_t reused = 0;
  int64_t failed = 0;
  for (int round = 0; round < 10; ++round) {
    RandomOperations operations(round, /*num_blocks=*/8 + 4 * round, /*reuse=*/round % 5 != 4);
    operations.Run(100'000);
    ASSERT_FALSE(HasFailure()) << "round " << round;
    reused += operations.reused_blocks();
    failed += operations.failed_grows();
  }
  EXPECT_GT(reused, 10'000);
  EXPECT_GT(failed, 10'000);
}

}  // namespace
}  // namespace trireme::kv_cache
