// SPDX-License-Identifier: Apache-2.0
// The packed step: filled by the host, sent in one copy, expanded on the GPU. Engine thread only.
//
//   staging buffer  [ header, rows, given tokens, block-table deltas | count, sample rows ]
//                     kernels/cuda/prepare_step.h                      kernels/cuda/sampling.h
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "device/cuda/buffer.h"
#include "device/cuda/launch.h"
#include "device/cuda/staging_ring.h"
#include "device/cuda/stream.h"
#include "engine/session.h"
#include "kernels/cuda/prepare_step.h"
#include "kernels/cuda/sampling.h"
#include "kernels/cuda/types.h"

namespace trireme::engine {

class CudaStep {
 public:
  static StatusOr<CudaStep> Create(const SessionLimits& limits, int max_blocks_per_seq,
                                   int block_size);

  // Packs a checked input and sends it. Every row that wants logits gets them for its last token.
  Status Send(const StepInput& input, const cuda::Stream& stream);

  // Of the packed step.
  int num_rows() const { return header_.num_rows; }
  int num_tokens() const { return header_.num_tokens; }
  int num_logit_rows() const { return header_.num_logit_rows; }
  int max_query_len() const { return header_.max_query_len; }
  // Tokens of the longest sequence, this step's included.
  int longest_seq() const { return longest_seq_; }
  // Row of the logits that belongs to the `row`-th row of the input, or -1.
  int logit_row(int row) const { return logit_rows_[static_cast<size_t>(row)]; }
  // First token row of the `row`-th row of the input.
  int first_query(int row) const { return first_queries_[static_cast<size_t>(row)]; }
  // Row of the logits for a slot of the step, or -1.
  int logit_row_of_slot(int slot) const { return slot_logit_rows_[static_cast<size_t>(slot)]; }

  // The arrays on the GPU, for the counts in hand or those of a captured bucket.
  cuda::StepView View(int max_tokens, int max_seqs, int max_logit_rows, int max_query) const;
  // Expands the packed step; the first launch of a step.
  Status Prepare(const cuda::StepView& view, const int32_t* last_tokens,
                 cuda::LaunchContext& context) const;

  // What Sample reads on the GPU: rows of the slots in turn, sent along when they are the rows with
  // logits, else with a copy of their own.
  struct SampleRows {
    const cuda::SampleRow* rows = nullptr;
    const int32_t* count = nullptr;
  };
  StatusOr<SampleRows> SampleRowsOf(std::span<const int> slots, const cuda::Stream& stream);

 private:
  // Words from the start of the packed step.
  int64_t SampleWordsBegin() const;
  void PackRows(const StepInput& input, int32_t* words);
  int PackSampleRows(std::span<const int> slots, int32_t* words) const;

  SessionLimits limits_;
  int block_size_ = 0;
  int max_blocks_per_seq_ = 0;
  cuda::StagingRing staging_;
  cuda::StagingRing sample_staging_;
  cuda::DeviceBuffer packed_;
  cuda::DeviceBuffer sample_rows_;  // those not sent along
  cuda::DeviceBuffer slot_block_tables_;
  cuda::DeviceBuffer arrays_;  // of the StepView
  cuda::StepView view_;
  cuda::PackedStepHeader header_;
  int longest_seq_ = 0;
  std::vector<int> logit_rows_;
  std::vector<int> first_queries_;
  std::vector<int> slot_logit_rows_;
  std::vector<int> sent_slots_;  // slots whose sample rows were sent along
};

}  // namespace trireme::engine
