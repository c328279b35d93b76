// SPDX-License-Identifier: Apache-2.0
// The packed tokens of one step and where their keys and values lie. Plain data, borrowed arrays.
//
// Tokens of sequence s are rows [cu_query_lens[s], cu_query_lens[s + 1]); its queries sit at
// positions context_lens[s] + 0, 1, ... and attend to everything before and including themselves.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/kv_layout.h"

namespace trireme::kernels {

struct StepView {
  int num_tokens = 0;
  int num_seqs = 0;
  const int32_t* token_ids = nullptr;      // [num_tokens]
  const int32_t* positions = nullptr;      // [num_tokens] rotary and learned positions
  const int32_t* cu_query_lens = nullptr;  // [num_seqs + 1]
  const int32_t* context_lens = nullptr;   // [num_seqs] tokens in the cache before this step
  const int32_t* block_tables = nullptr;   // [num_seqs, max_blocks_per_seq] KV block ids
  int max_blocks_per_seq = 0;
  const int32_t* logit_rows = nullptr;  // [num_logit_rows] token rows whose logits are wanted
  int num_logit_rows = 0;
};

// The KV pool of one device.
struct KvCacheView {
  KvLayout layout;
  std::byte* pool = nullptr;
  int64_t num_blocks = 0;
};

}  // namespace trireme::kernels
