// SPDX-License-Identifier: Apache-2.0
// Where the tokens of a step lie. Pure functions.
#pragma once

#include <cstdint>

#include "kernels/step_view.h"

namespace trireme::kernels {

constexpr int kMaxHeadDim = 256;

// The sequence that token row `row` belongs to.
inline int SequenceOfToken(const StepView& step, int64_t row) {
  int low = 0;
  int high = step.num_seqs;  // invariant: cu_query_lens[low] <= row < cu_query_lens[high]
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (step.cu_query_lens[middle] <= row ? low : high) = middle;
  }
  return low;
}

struct CacheSlot {
  int64_t block = 0;
  int token = 0;  // in the block
};

// The slot of the `index`-th token (from 0) of sequence `seq`.
inline CacheSlot SlotOf(const StepView& step, const KvLayout& layout, int seq, int64_t index) {
  const int32_t* table = step.block_tables + int64_t{seq} * step.max_blocks_per_seq;
  return {table[index / layout.block_size], static_cast<int>(index % layout.block_size)};
}

// The slot that the keys and values of token row `row` go to.
inline CacheSlot SlotOfToken(const StepView& step, const KvLayout& layout, int64_t row) {
  const int seq = SequenceOfToken(step, row);
  return SlotOf(step, layout, seq, step.context_lens[seq] + (row - step.cu_query_lens[seq]));
}

}  // namespace trireme::kernels
