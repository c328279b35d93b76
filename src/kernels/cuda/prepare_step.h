// SPDX-License-Identifier: Apache-2.0
// Turns the packed rows of one step, as the host copied them to the device, into a StepView.
//
// The packed step is an array of 32-bit words, so that one copy carries all of it:
//
//   PackedStepHeader | PackedRow [num_rows] | given tokens [num_given] | PackedDelta [num_deltas]
//
// It is read at a fixed address (a captured graph may hold this launch); counts come from its header.
// Block-table deltas are applied to the tables of the slots, then the table of each row's slot is
// copied to the row, as far as its tokens reach. A row whose tokens the host does not know takes the
// last token sampled for its slot.
//
// Beyond the counts up to the bucket: token_ids, positions, context_lens and logit_rows are 0,
// token_seqs is -1, cu_query_lens repeats num_tokens. Block tables of rows beyond are untouched.
//
// Deterministic. Bound by latency. sm_90 up (one cluster of thread blocks).
#pragma once

#include "device/cuda/launch.h"
#include "kernels/cuda/types.h"

namespace trireme::cuda {

struct PackedStepHeader {
  int32_t num_rows = 0;  // sequences
  int32_t num_tokens = 0;
  int32_t num_logit_rows = 0;
  int32_t max_query_len = 0;
  int32_t num_given = 0;  // tokens that follow the rows
  int32_t num_deltas = 0;
};

struct PackedRow {
  int32_t slot = 0;
  int32_t context_len = 0;
  int32_t first_query = 0;      // queries of the rows before
  int32_t first_logit_row = 0;  // logit rows of the rows before
  int32_t num_logit_rows = 0;   // the last so many queries
  int32_t first_given = -1;     // index among the given tokens; -1: the last token of the slot
};

struct PackedDelta {
  int32_t slot = 0;
  int32_t index = 0;
  int32_t block = 0;
};

struct PrepareStepParams {
  const int32_t* packed = nullptr;       // device, 4-byte aligned
  const int32_t* last_tokens = nullptr;  // [num_slots]; SamplingSlots::last_tokens
  int32_t* slot_block_tables = nullptr;  // [num_slots, block_table_stride]
  int block_size = 64;

  // Written: the arrays of the StepView that forward launches read. Sizes are those of the bucket.
  StepCounts* counts = nullptr;
  int32_t* token_ids = nullptr;      // [max_tokens]
  int32_t* positions = nullptr;      // [max_tokens]
  int32_t* token_seqs = nullptr;     // [max_tokens]
  int32_t* cu_query_lens = nullptr;  // [max_seqs + 1]
  int32_t* context_lens = nullptr;   // [max_seqs]
  int32_t* block_tables = nullptr;   // [max_seqs, block_table_stride]
  int32_t* logit_rows = nullptr;     // [max_logit_rows]
  int block_table_stride = 0;
  int max_tokens = 0;
  int max_seqs = 0;
  int max_logit_rows = 0;
};

// Words of a packed step.
constexpr int64_t PackedStepWords(int64_t num_rows, int64_t num_given, int64_t num_deltas) {
  return (static_cast<int64_t>(sizeof(PackedStepHeader)) +
          num_rows * static_cast<int64_t>(sizeof(PackedRow)) +
          num_deltas * static_cast<int64_t>(sizeof(PackedDelta))) /
             4 +
         num_given;
}

cudaError_t PrepareStep(const PrepareStepParams& params, LaunchContext& context);

}  // namespace trireme::cuda
