// SPDX-License-Identifier: Apache-2.0
// Causal attention over the paged cache: prefill chunks and decode rows of one step together.
//
//   s_j = scale * q . k_j;  s_j = soft_cap * tanh(s_j / soft_cap);  s_j += slope * (j - i)
//   out = sum_j softmax(s)_j v_j          over j in (i - window, i], i the query's place
//
// | operand      | dtype    | shape                              | notes                             |
// |--------------|----------|------------------------------------|-----------------------------------|
// | q            | T        | [max_tokens, num_heads * head_dim] | row stride q_stride               |
// | kv           | T or FP8 | the pool                           | this step's k, v written          |
// | alibi_slopes | float32  | [num_heads] or null                |                                   |
// | out          | T        | as q                               | row stride out_stride; not q      |
// | workspace    | bytes    | PagedAttentionWorkspaceBytes       | 256-byte aligned; see below       |
//
// T: bfloat16 or float16. num_heads is a multiple of num_kv_heads; head h reads kv head
// h / (num_heads / num_kv_heads). head_dim is a multiple of 16, at most 256; block_size a power
// of two, 16 at least; q, out 16-byte aligned, strides multiples of 8. Blocks wholly before the
// window may be absent from the table (any id). Keys beyond a sequence's end are never used,
// whatever they hold. scale is positive. Where RopePagedAttention is one launch, q of qkv stays
// unrotated.
// Accumulation: float32; probabilities are rounded to T (FP8 cache: float16) for the product with
// V. Rows beyond the counts are not written. The same step gives the same bits again; another batch
// may split a sequence's keys elsewhere, but for batch_invariant. sm_80 up; the fast prefill kernel
// needs sm_90a.
//
// Decode is bound by reading the cache (98 % of the read limit at 256 sequences of 4,096 tokens in
// FP8, one H200), prefill by the tensor cores (73 % of a large product at 8,192 tokens in BF16);
// docs/performance.md has the figures.
//
// The workspace holds the plan: who works on which keys, decided on the device from the step's
// lengths, so that a captured graph serves every step of its bucket. PlanPagedAttention is launched
// once a step, before the first PagedAttention; layers of one window share it. Layers of another
// window need a plan and workspace of their own.
#pragma once

#include "device/cuda/launch.h"
#include "kernels/cuda/rope_kv_write.h"
#include "kernels/cuda/types.h"

namespace trireme::cuda {

struct PagedAttentionParams {
  Element dtype = Element::kBFloat16;
  const void* q = nullptr;
  int64_t q_stride = 0;  // elements
  int num_heads = 0;
  float scale = 1.0f;
  int window = 0;         // 0: all positions
  float soft_cap = 0.0f;  // 0: none
  const float* alibi_slopes = nullptr;
  void* out = nullptr;
  int64_t out_stride = 0;  // elements
  StepView step;
  KvView kv;
  int layer = 0;
  void* workspace = nullptr;
  // Decoding sequences take the kernel of prompts too, which splits no sequence's keys: the bits of a
  // row depend on its query and keys alone. Slower at decode.
  bool batch_invariant = false;
  bool generic_prefill = false;  // take the kernel for every shape where Hopper's own would serve
};

// Bytes of workspace for params.step's bucket; grows with max_tokens and max_seqs, so the largest
// bucket's serves all. Reads the sizes of `params` only, no pointer.
int64_t PagedAttentionWorkspaceBytes(const PagedAttentionParams& params,
                                     const LaunchContext& context);

// Reads the step's lengths, num_heads, window and kv sizes; writes the workspace. One launch.
cudaError_t PlanPagedAttention(const PagedAttentionParams& params, LaunchContext& context);

// cudaErrorInvalidValue for operands outside the table above. One launch where step.max_query is
// 1, else two: decode rows and longer chunks.
cudaError_t PagedAttention(const PagedAttentionParams& params, LaunchContext& context);

// RopeKvWrite, then PagedAttention. One launch where step.max_query is 1.
cudaError_t RopePagedAttention(const RopeKvWriteParams& rope, const PagedAttentionParams& attention,
                               LaunchContext& context);

}  // namespace trireme::cuda
