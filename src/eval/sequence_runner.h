// SPDX-License-Identifier: Apache-2.0
// One engine that reads one sequence at a time, piece by piece, and shows its logits. One thread;
// the session brings its own.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "base/status.h"
#include "engine/session.h"

namespace trireme::eval {

struct RunnerOptions {
  // Longest sequence. 0: the engine's, but no more than kDefaultSeqLen.
  int max_seq_len = 0;
  int num_threads = 0;
  engine::LinearObserver observe_linear;
};

class SequenceRunner {
 public:
  static constexpr int kDefaultSeqLen = 2048;
  // Tokens of a piece: bounds the memory that logits take.
  static constexpr int kPieceTokens = 256;

  // A length beyond the positions the model knows is refused.
  static StatusOr<SequenceRunner> Load(const std::string& engine_dir, RunnerOptions options);

  // Forgets the sequence.
  void Restart() { num_read_ = 0; }

  // Reads the next tokens, at most kPieceTokens. Logits: float32 [0, 1 or tokens, vocab_size],
  // valid until the next call.
  StatusOr<std::span<const float>> Read(std::span<const TokenId> tokens,
                                        engine::LogitsWanted wanted);

  int vocab_size() const { return session_->info().model.vocab_size; }
  int max_seq_len() const { return session_->limits().max_seq_len; }

 private:
  explicit SequenceRunner(std::unique_ptr<engine::Session> session)
      : session_(std::move(session)) {}

  std::unique_ptr<engine::Session> session_;
  int num_read_ = 0;
};

}  // namespace trireme::eval
