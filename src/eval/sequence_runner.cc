// SPDX-License-Identifier: Apache-2.0
#include "eval/sequence_runner.h"

#include <algorithm>

#include "engine/engine_folder.h"
#include "tensor/kv_window.h"

namespace trireme::eval {
namespace {

int BlocksOf(int tokens, int block_size) { return (tokens + block_size - 1) / block_size; }

// Blocks that lie in use at once: all of the longest sequence, or those of a sliding window.
int64_t BlocksNeeded(const engine::Session& session) {
  const int block_size = session.kv_layout().block_size;
  const int64_t all = BlocksOf(session.limits().max_seq_len, block_size);
  if (session.kv_window() == 0) return all;
  return std::min(all,
                  WindowBlocks(session.kv_window(), session.limits().max_num_tokens, block_size));
}

}  // namespace

StatusOr<SequenceRunner> SequenceRunner::Load(const std::string& engine_dir,
                                              RunnerOptions options) {
  int max_seq_len = options.max_seq_len;
  {
    TRIREME_ASSIGN_OR_RETURN(const engine::LoadedEngine engine, engine::OpenEngine(engine_dir));
    if (max_seq_len == 0) max_seq_len = std::min(kDefaultSeqLen, engine.max_seq_len);
    const int known = engine.model.max_position_embeddings;
    if (known > 0 && max_seq_len > known) {
      return InvalidArgument(
          "a length of {} tokens is beyond the {} positions that the model of "
          "'{}' knows; give a smaller --max_length",
          max_seq_len, known, engine_dir);
    }
  }
  engine::SessionOptions session_options;
  session_options.limits = {.max_batch_size = 1,
                            .max_num_tokens = std::min(kPieceTokens, max_seq_len),
                            .max_seq_len = max_seq_len};
  session_options.num_threads = options.num_threads;
  session_options.observe_linear = std::move(options.observe_linear);
  TRIREME_ASSIGN_OR_RETURN(std::unique_ptr<engine::Session> session,
                           engine::Session::Load(engine_dir, session_options));
  if (session->num_kv_blocks() - 1 < BlocksNeeded(*session)) {
    return ResourceExhausted(
        "no memory for the keys and values of {} tokens; give a smaller --max_length", max_seq_len);
  }
  return SequenceRunner(std::move(session));
}

StatusOr<std::span<const float>> SequenceRunner::Read(std::span<const TokenId> tokens,
                                                      engine::LogitsWanted wanted) {
  engine::StepInput step;
  step.rows.push_back({.slot = 0, .tokens = tokens, .context_len = num_read_, .logits = wanted});
  // Block 0 is never handed out; the others take turns where a window leaves them behind.
  const int block_size = session_->kv_layout().block_size;
  const int num_blocks = session_->num_kv_blocks() - 1;
  const int end = BlocksOf(num_read_ + static_cast<int>(tokens.size()), block_size);
  for (int i = BlocksOf(num_read_, block_size); i < end; ++i) {
    step.block_table_deltas.push_back({0, i, 1 + i % num_blocks});
  }
  TRIREME_RETURN_IF_ERROR(session_->Forward(step));
  num_read_ += static_cast<int>(tokens.size());
  if (wanted == engine::LogitsWanted::kNone) return std::span<const float>();
  return session_->Logits(0);
}

}  // namespace trireme::eval
