// SPDX-License-Identifier: Apache-2.0
// FakeSession: a session for tests whose model is a hash. Engine thread only; its counters are
// thread-safe and outlive it.
//
// It keeps token ids where a real session keeps keys and values, one per place in the KV blocks,
// and logits are a hash of every id that a position can see through its slot's block table. A
// wrong or stale table entry, a block given to two sequences, a missed recomputation or a lost
// token therefore changes what is generated. What the contract of Session forbids is an error.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <deque>
#include <memory>
#include <set>
#include <span>
#include <thread>
#include <vector>

#include "base/status.h"
#include "engine/session.h"

namespace trireme::executor {

struct FakeSessionCounters {
  std::atomic<int64_t> forwards{0};
  std::atomic<int64_t> computed_tokens{0};
  std::atomic<int64_t> sampled_tokens{0};
  std::atomic<int64_t> largest_chunk{0};
  std::atomic<int64_t> steps_in_flight{0};  // sampled, not awaited
  std::atomic<int64_t> max_steps_in_flight{0};
};

struct FakeSessionOptions {
  int vocab_size = 61;
  int block_size = 4;
  int num_blocks = 256;  // besides block 0, which nobody may use
  int max_batch_size = 8;
  int max_num_tokens = 64;
  int max_seq_len = 128;
  int window = 0;                // positions see that many last ones; 0: all
  int64_t fail_at_forward = -1;  // the call with this number returns an error
  int bad_logits_after = -1;     // sequences of that many tokens have logits that are no numbers
  std::chrono::microseconds step_time{0};
};

class FakeSession final : public engine::Session {
 public:
  explicit FakeSession(
      const FakeSessionOptions& options,
      std::shared_ptr<FakeSessionCounters> counters = std::make_shared<FakeSessionCounters>())
      : options_(options),
        counters_(std::move(counters)),
        blocks_(options.num_blocks + 1, std::vector<TokenId>(options.block_size, kPoison)),
        slots_(options.max_batch_size) {
    info_.model.vocab_size = options.vocab_size;
    info_.max_batch_size = options.max_batch_size;
    info_.max_num_tokens = options.max_num_tokens;
    info_.max_seq_len = options.max_seq_len;
    info_.tokens_per_block = options.block_size;
    info_.device = "fake";
    limits_ = {options.max_batch_size, options.max_num_tokens, options.max_seq_len};
    layout_.block_size = options.block_size;
  }

  const EngineInfo& info() const override { return info_; }
  const engine::SessionLimits& limits() const override { return limits_; }
  const KvLayout& kv_layout() const override { return layout_; }
  int num_kv_blocks() const override { return options_.num_blocks + 1; }
  int max_blocks_per_seq() const override {
    return (options_.max_seq_len + options_.block_size - 1) / options_.block_size;
  }

  int kv_window() const override { return options_.window; }

  void ResetSlot(int index, const engine::SlotRequest& request) override {
    Slot& slot = slots_.at(index);
    slot = Slot{};
    slot.sampling = request.sampling;
    slot.prompt_len = static_cast<int>(request.prompt.size());
    slot.history.assign(request.prompt.begin(), request.prompt.end());
    slot.history.insert(slot.history.end(), request.generated.begin(), request.generated.end());
    slot.end_ids = request.end_ids;
    slot.max_tokens = request.max_tokens;
    slot.bad_words.assign(request.bad_words.begin(), request.bad_words.end());
    slot.stop_words.assign(request.stop_words.begin(), request.stop_words.end());
    slot.bias.assign(request.embedding_bias.begin(), request.embedding_bias.end());
    slot.log_probs = request.log_probs;
    slot.table.assign(max_blocks_per_seq(), -1);
  }

  Status Forward(const engine::StepInput& input) override {
    if (counters_->forwards++ == options_.fail_at_forward) return Internal("the device burns");
    std::this_thread::sleep_for(options_.step_time);
    for (const auto& delta : input.block_table_deltas) {
      if (delta.block < 1 || delta.block > options_.num_blocks) {
        return Internal("block {} is not for sequences", delta.block);
      }
      slots_.at(delta.slot).table.at(delta.index) = delta.block;
    }
    rows_.clear();
    int64_t num_tokens = 0;
    std::set<int> seen;
    for (const engine::StepRow& row : input.rows) {
      if (!seen.insert(row.slot).second) return Internal("slot {} comes twice", row.slot);
      num_tokens += std::max<size_t>(1, row.tokens.size());
      TRIREME_RETURN_IF_ERROR(RunRow(row));
    }
    if (num_tokens > options_.max_num_tokens) return Internal("{} tokens in a step", num_tokens);
    counters_->computed_tokens += num_tokens;
    return OkStatus();
  }

  Status Sample(std::span<const int> slots) override {
    std::vector<engine::SampledToken> sampled;
    for (int slot : slots) {
      auto row = std::ranges::find(rows_, slot, &RowLogits::slot);
      if (row == rows_.end() || row->logits.empty()) return Internal("slot {} has no logits", slot);
      sampled.push_back(SampleRow(slots_.at(slot), *row));
    }
    counters_->sampled_tokens += static_cast<int64_t>(sampled.size());
    pending_.push_back(std::move(sampled));
    counters_->max_steps_in_flight =
        std::max<int64_t>(counters_->max_steps_in_flight, ++counters_->steps_in_flight);
    return OkStatus();
  }

  StatusOr<std::vector<engine::SampledToken>> Await() override {
    if (pending_.empty()) return Internal("nothing to await");
    std::vector<engine::SampledToken> sampled = std::move(pending_.front());
    pending_.pop_front();
    --counters_->steps_in_flight;
    return sampled;
  }

  StatusOr<std::span<const float>> Logits(int row) override {
    if (row < 0 || row >= static_cast<int>(rows_.size())) return Internal("no row {}", row);
    return std::span<const float>(rows_[row].logits);
  }

 private:
  static constexpr TokenId kPoison = -7;
  struct Slot {
    SamplingParams sampling;
    std::vector<TokenId> history;  // prompt and generated
    int prompt_len = 0;
    int seq_len = 0;  // tokens in the cache
    std::vector<TokenId> end_ids;
    int max_tokens = 0;
    std::vector<std::vector<TokenId>> bad_words;
    std::vector<std::vector<TokenId>> stop_words;
    std::vector<float> bias;
    bool log_probs = false;
    std::vector<int32_t> table;
  };
  struct RowLogits {
    int slot = 0;
    std::vector<float> logits;
  };

  static uint64_t Mix(uint64_t x) {
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
  }
  static float Uniform(uint64_t x) {  // in (0, 1)
    return (static_cast<float>(Mix(x) >> 41) + 0.5f) * 0x1p-23f;
  }

  Status RunRow(const engine::StepRow& row) {
    Slot& slot = slots_.at(row.slot);
    const std::span<const TokenId> tokens =
        row.tokens.empty() ? std::span(slot.history).last(1) : row.tokens;
    // Blocks found in the prefix cache may begin a fresh slot behind position 0.
    if (slot.seq_len != 0 && row.context_len > slot.seq_len) {
      return Internal("slot {} skips from {} to {}", row.slot, slot.seq_len, row.context_len);
    }
    counters_->largest_chunk =
        std::max<int64_t>(counters_->largest_chunk, static_cast<int64_t>(tokens.size()));
    std::vector<float>& logits = rows_.emplace_back(RowLogits{.slot = row.slot}).logits;
    for (size_t i = 0; i < tokens.size(); ++i) {
      const int position = row.context_len + static_cast<int>(i);
      if (position >= options_.max_seq_len) return Internal("position {} is too far", position);
      const int32_t block = slot.table[position / options_.block_size];
      if (block < 0) return Internal("position {} of slot {} has no block", position, row.slot);
      blocks_[block][position % options_.block_size] = tokens[i];
      const bool last = i + 1 == tokens.size();
      if (row.logits == engine::LogitsWanted::kAll ||
          (row.logits == engine::LogitsWanted::kLast && last)) {
        TRIREME_RETURN_IF_ERROR(AppendLogits(slot, position, logits));
      }
    }
    slot.seq_len = row.context_len + static_cast<int>(tokens.size());
    return OkStatus();
  }

  Status AppendLogits(const Slot& slot, int position, std::vector<float>& logits) const {
    uint64_t hash = 0;
    const int first = options_.window > 0 ? std::max(0, position - options_.window + 1) : 0;
    for (int p = first; p <= position; ++p) {
      const int32_t block = slot.table[p / options_.block_size];
      if (block < 0) return Internal("position {} has no block", p);
      hash = Mix(hash ^ static_cast<uint32_t>(blocks_[block][p % options_.block_size]));
    }
    for (int v = 0; v < options_.vocab_size; ++v) logits.push_back(8 * Uniform(hash + v));
    return OkStatus();
  }

  engine::SampledToken SampleRow(Slot& slot, const RowLogits& row) {
    const std::vector<float> scores = Penalise(slot, row);
    const bool greedy =
        slot.sampling.top_k == 1 || (slot.sampling.top_k == 0 && slot.sampling.top_p == 0);
    const uint64_t position = slot.history.size() - slot.prompt_len;
    int best = 0;
    float best_score = -INFINITY;
    for (int v = 0; v < options_.vocab_size; ++v) {
      const uint64_t noise = Mix(slot.sampling.seed) ^ Mix(position * 1'000'003 + v);
      const float score = greedy ? scores[v] : scores[v] - std::log(-std::log(Uniform(noise)));
      if (score > best_score) {
        best = v;
        best_score = score;
      }
    }
    slot.history.push_back(best);
    engine::SampledToken sampled{.slot = row.slot, .token = best, .finish = Finish(slot)};
    if (slot.log_probs) sampled.log_prob = LogProb(scores, best);
    sampled.bad_logits = static_cast<int>(slot.history.size()) - 1 == options_.bad_logits_after;
    return sampled;
  }

  std::vector<float> Penalise(const Slot& slot, const RowLogits& row) const {
    std::vector<float> scores(row.logits.end() - options_.vocab_size, row.logits.end());
    for (size_t v = 0; v < slot.bias.size(); ++v) scores[v] += slot.bias[v];
    for (float& score : scores) score /= slot.sampling.temperature;
    for (TokenId token : slot.history) scores[token] -= slot.sampling.frequency_penalty;
    const int generated = static_cast<int>(slot.history.size()) - slot.prompt_len;
    if (generated < slot.sampling.min_tokens) {
      for (TokenId end_id : slot.end_ids) scores[end_id] = -INFINITY;
    }
    for (const auto& word : slot.bad_words) {
      const std::span<const TokenId> head(word.data(), word.size() - 1);
      if (EndsWith(slot.history, head)) scores[word.back()] = -INFINITY;
    }
    return scores;
  }

  FinishReason Finish(const Slot& slot) const {
    if (std::ranges::count(slot.end_ids, slot.history.back()) > 0) return FinishReason::kEndId;
    const std::span generated = std::span(slot.history).subspan(slot.prompt_len);
    for (const auto& word : slot.stop_words) {
      if (EndsWith(generated, word)) return FinishReason::kStopWords;
    }
    const bool full = static_cast<int>(generated.size()) >= slot.max_tokens;
    return full ? FinishReason::kLength : FinishReason::kNotFinished;
  }

  static bool EndsWith(std::span<const TokenId> tokens, std::span<const TokenId> tail) {
    return tokens.size() >= tail.size() && std::ranges::equal(tokens.last(tail.size()), tail);
  }

  static float LogProb(const std::vector<float>& scores, int token) {
    float sum = 0;
    for (float score : scores) sum += std::exp(score);
    return scores[token] - std::log(sum);
  }

  const FakeSessionOptions options_;
  const std::shared_ptr<FakeSessionCounters> counters_;
  EngineInfo info_;
  engine::SessionLimits limits_;
  KvLayout layout_;
  std::vector<std::vector<TokenId>> blocks_;
  std::vector<Slot> slots_;
  std::vector<RowLogits> rows_;
  std::deque<std::vector<engine::SampledToken>> pending_;
};

}  // namespace trireme::executor
