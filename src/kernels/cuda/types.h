// SPDX-License-Identifier: Apache-2.0
// Operand types that CUDA launchers share. C++17: included by .cu files. Plain data.
#pragma once

#include <cstdint>

namespace trireme::cuda {

enum class Element : uint8_t { kFloat32, kFloat16, kBFloat16, kFloat8E4M3, kInt8 };

// The packed tokens of one step, in device memory (kernels/step_view.h has the host's form). Tokens
// of sequence s are rows [cu_query_lens[s], cu_query_lens[s + 1]). A captured graph serves every
// step of its bucket: launch shapes follow the bucket's sizes, kernels read the true counts here
// and do nothing for rows beyond them.
struct StepCounts {
  int32_t num_tokens;
  int32_t num_seqs;
  int32_t num_logit_rows;
  int32_t max_query_len;
};

struct StepView {
  const StepCounts* counts = nullptr;      // device
  const int32_t* token_ids = nullptr;      // [num_tokens]
  const int32_t* positions = nullptr;      // [num_tokens]
  const int32_t* token_seqs = nullptr;     // [num_tokens] sequence (row of the step) of a token
  const int32_t* cu_query_lens = nullptr;  // [num_seqs + 1]
  const int32_t* context_lens = nullptr;   // [num_seqs] tokens in the cache before this step
  const int32_t* block_tables = nullptr;   // [num_seqs, block_table_stride]
  int block_table_stride = 0;
  const int32_t* logit_rows = nullptr;  // [num_logit_rows] token rows whose logits are wanted

  // The bucket: upper limits of the counts, on the host.
  int max_tokens = 0;
  int max_seqs = 0;
  int max_logit_rows = 0;
  int max_query = 1;    // longest query of the step; 1: every sequence decodes
  int max_seq_len = 0;  // no sequence is longer, this step's queries included
};

// The KV pool: [num_blocks][layer][K | V][kv_head][block_size][head_dim] (tensor/kv_layout.h with
// keys in token order). `scale`s turn stored FP8 or INT8 values into numbers.
struct KvView {
  Element dtype = Element::kBFloat16;
  void* pool = nullptr;
  int64_t block_bytes = 0;  // all layers
  int num_kv_heads = 0;
  int head_dim = 0;
  int block_size = 64;
  float k_scale = 1.0f;
  float v_scale = 1.0f;
};

}  // namespace trireme::cuda
