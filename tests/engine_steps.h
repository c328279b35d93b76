// SPDX-License-Identifier: Apache-2.0
// Runs an engine step by step for tests: prompts in chunks, then tokens of several sequences at
// once, every sequence with KV blocks of its own. Not thread-safe.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "engine/session.h"

namespace trireme {

class EngineSteps {
 public:
  EngineSteps(const std::string& engine, engine::SessionOptions options) {
    options.num_threads = 2;
    auto session = engine::Session::Load(engine, options);
    EXPECT_TRUE(session.ok()) << session.status().ToString();
    if (!session.ok()) return;
    session_ = std::move(*session);
    const int slots = session_->limits().max_batch_size;
    EXPECT_GT(session_->num_kv_blocks(), slots * session_->max_blocks_per_seq());
  }

  bool ok() const { return session_ != nullptr; }
  engine::Session& session() { return *session_; }

  // Computes `tokens` of a fresh slot, at most `chunk` of them in a step, and appends the logits of
  // each chunk's last token to `logits`.
  void Prefill(int slot, const std::vector<TokenId>& tokens, int chunk,
               std::vector<float>& logits) {
    session_->ResetSlot(slot, {});
    lengths_.resize(std::max(lengths_.size(), static_cast<size_t>(slot) + 1));
    lengths_[static_cast<size_t>(slot)] = 0;
    for (size_t begin = 0; begin < tokens.size(); begin += static_cast<size_t>(chunk)) {
      const size_t count = std::min(tokens.size() - begin, static_cast<size_t>(chunk));
      engine::StepInput step;
      AddRow(slot, std::span(tokens).subspan(begin, count), step);
      Forward(step, logits);
    }
  }

  // One more token, tokens[i] for slot i, of every slot that has one, all in one step.
  void Decode(const std::vector<TokenId>& tokens, std::vector<float>& logits) {
    engine::StepInput step;
    for (size_t slot = 0; slot < tokens.size(); ++slot) {
      AddRow(static_cast<int>(slot), std::span(tokens).subspan(slot, 1), step);
    }
    Forward(step, logits);
  }

 private:
  void AddRow(int slot, std::span<const TokenId> tokens, engine::StepInput& step) {
    int& length = lengths_[static_cast<size_t>(slot)];
    if (length == 0) {
      const int blocks = session_->max_blocks_per_seq();
      for (int i = 0; i < blocks; ++i) {
        step.block_table_deltas.push_back({slot, i, 1 + slot * blocks + i});
      }
    }
    step.rows.push_back({.slot = slot, .tokens = tokens, .context_len = length});
    length += static_cast<int>(tokens.size());
  }

  void Forward(const engine::StepInput& step, std::vector<float>& logits) {
    const Status status = session_->Forward(step);
    ASSERT_TRUE(status.ok()) << status.ToString();
    for (size_t row = 0; row < step.rows.size(); ++row) {
      const auto values = session_->Logits(static_cast<int>(row));
      ASSERT_TRUE(values.ok()) << values.status().ToString();
      logits.insert(logits.end(), values->begin(), values->end());
    }
  }

  std::unique_ptr<engine::Session> session_;
  std::vector<int> lengths_;
};

}  // namespace trireme
