// SPDX-License-Identifier: Apache-2.0
// Causal attention over the paged cache, for prefill, chunked prefill and decode alike. Engine
// thread only.
//
//   s_j = scale * q . k_j;  s_j = soft_cap * tanh(s_j / soft_cap);  s_j += slope * (j - i)
//   out = sum_j softmax(s)_j v_j          over j in (i - window, i], i the query's place
//
// | operand      | dtype        | shape                              | notes                         |
// |--------------|--------------|------------------------------------|-------------------------------|
// | q            | float32      | [num_tokens, num_heads * head_dim] | row stride q_stride           |
// | kv           | layout.dtype | the pool                           | this step's k, v written      |
// | alibi_slopes | float32      | [num_heads] or null                |                               |
// | out          | float32      | as q                               | may be q                      |
//
// num_heads is a multiple of num_kv_heads; head h reads kv head h / (num_heads / num_kv_heads).
// head_dim is 1 to 256; multiples of 16 with block_size >= 16 take the vector variants.
// Accumulation: float32. Each (token, head) is computed from its own place and the keys and values
// alone, over key tiles that start at multiples of 64: bit-identical whatever the chunking, the
// batch, the block size or the number of threads.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu_context.h"
#include "kernels/step_view.h"

namespace trireme::kernels {

struct PagedAttentionParams {
  const float* q = nullptr;
  int64_t q_stride = 0;
  int num_heads = 0;
  float scale = 1.0f;
  int window = 0;         // 0: all positions
  float soft_cap = 0.0f;  // 0: none
  const float* alibi_slopes = nullptr;
  float* out = nullptr;
  int64_t out_stride = 0;
  StepView step;
  KvCacheView kv;
  int layer = 0;
  std::byte* workspace = nullptr;  // PagedAttentionWorkspaceBytes, 64-byte aligned
};

// For every step of at most max_seqs sequences on `num_threads` threads.
int64_t PagedAttentionWorkspaceBytes(const KvLayout& layout, int num_heads, int max_seqs,
                                     int num_threads);

void PagedAttention(const PagedAttentionParams& params, CpuContext& context);
void PagedAttentionReference(const PagedAttentionParams& params);

}  // namespace trireme::kernels
