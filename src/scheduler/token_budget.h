// SPDX-License-Identifier: Apache-2.0
// How many tokens of each sequence the next step computes: pure functions.
#pragma once

#include <span>
#include <vector>

#include "trireme/executor.h"

namespace trireme::scheduler {

// A sequence that holds a slot and may run.
struct BudgetSequence {
  bool generating = false;   // one token, the last one sampled
  int remaining_tokens = 0;  // else: context tokens not yet computed, at least 1
};

struct BudgetInput {
  int max_num_tokens = 0;
  bool chunked_context = true;
  ChunkingPolicy policy = ChunkingPolicy::kFirstComeFirstServed;
  int chunk_unit = 64;                        // see ChunkUnit
  std::span<const BudgetSequence> sequences;  // oldest first
};

// Tokens per sequence, 0: not in this step. Generation comes first, one token each; what is left
// goes to contexts in chunks that are a multiple of chunk_unit, except the last of a context.
//  - first come, first served: as much as fits of the oldest, then of the next; nobody overtakes;
//  - equal progress: one unit for each in turn, until the budget is used.
// Without chunked context a context is taken whole, and nobody overtakes; only one that is longer
// than max_num_tokens (a long sequence computed again after a pause) is cut all the same.
std::vector<int> PlanTokens(const BudgetInput& input);

// The number of tokens that chunks are a multiple of: block_size, or less where a full batch of
// generation would leave no room for a whole block and contexts would starve.
int ChunkUnit(int block_size, int max_num_tokens, int max_batch_size);

}  // namespace trireme::scheduler
