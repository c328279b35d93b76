// SPDX-License-Identifier: Apache-2.0
#include "scheduler/token_budget.h"

#include <algorithm>

namespace trireme::scheduler {
namespace {

// The largest allowed chunk of a context with `remaining` tokens.
int ChunkWithin(int remaining, int budget, int unit) {
  return remaining <= budget ? remaining : budget / unit * unit;
}

void ServeInOrder(const BudgetInput& input, int budget, std::vector<int>& tokens) {
  for (size_t i = 0; i < tokens.size(); ++i) {
    const BudgetSequence& sequence = input.sequences[i];
    if (sequence.generating) continue;
    const int remaining = sequence.remaining_tokens;
    const bool may_cut = input.chunked_context || remaining > input.max_num_tokens;
    if (!may_cut && remaining > budget) return;
    tokens[i] = ChunkWithin(remaining, budget, input.chunk_unit);
    budget -= tokens[i];
    if (tokens[i] < remaining) return;
  }
}

void ServeEqually(const BudgetInput& input, int budget, std::vector<int>& tokens) {
  for (bool progress = true; progress;) {
    progress = false;
    for (size_t i = 0; i < tokens.size(); ++i) {
      const BudgetSequence& sequence = input.sequences[i];
      if (sequence.generating || tokens[i] == sequence.remaining_tokens) continue;
      const int piece = std::min(input.chunk_unit, sequence.remaining_tokens - tokens[i]);
      if (piece > budget) return;
      tokens[i] += piece;
      budget -= piece;
      progress = true;
    }
  }
}

}  // namespace

std::vector<int> PlanTokens(const BudgetInput& input) {
  std::vector<int> tokens(input.sequences.size(), 0);
  int budget = input.max_num_tokens;
  for (size_t i = 0; i < tokens.size() && budget > 0; ++i) {
    if (!input.sequences[i].generating) continue;
    tokens[i] = 1;
    --budget;
  }
  if (input.chunked_context && input.policy == ChunkingPolicy::kEqualProgress) {
    ServeEqually(input, budget, tokens);
  } else {
    ServeInOrder(input, budget, tokens);
  }
  return tokens;
}

int ChunkUnit(int block_size, int max_num_tokens, int max_batch_size) {
  int unit = block_size;
  while (unit > 1 && unit > max_num_tokens - max_batch_size) unit /= 2;
  return unit;
}

}  // namespace trireme::scheduler
