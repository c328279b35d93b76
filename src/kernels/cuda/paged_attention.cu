// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/paged_attention.h"

#include "kernels/cuda/paged_attention_launch.cuh"

namespace trireme::cuda {
namespace {

bool Supported(const PagedAttentionParams& p) {
  const bool activations = p.dtype == Element::kBFloat16 || p.dtype == Element::kFloat16;
  const bool cache = p.kv.dtype == p.dtype || p.kv.dtype == Element::kFloat8E4M3;
  const bool heads =
      p.num_heads > 0 && p.kv.num_kv_heads > 0 && p.num_heads % p.kv.num_kv_heads == 0;
  const bool head_dim = p.kv.head_dim >= 16 && p.kv.head_dim <= 256 && p.kv.head_dim % 16 == 0;
  const bool block =
      p.kv.block_size >= kChunkKeys && (p.kv.block_size & (p.kv.block_size - 1)) == 0;
  return activations && cache && heads && head_dim && block && p.q_stride % 8 == 0 &&
         p.out_stride % 8 == 0 && p.workspace != nullptr && p.step.max_seqs > 0 &&
         p.step.max_tokens > 0 && p.window >= 0 && p.scale > 0.0f;
}

cudaError_t Dispatch(const AttentionArgs& args, LaunchContext& context) {
  switch (args.p.kv.dtype) {
    case Element::kBFloat16: return LaunchAttentionBFloat16(args, context);
    case Element::kFloat16: return LaunchAttentionFloat16(args, context);
    default: return LaunchAttentionFloat8(args, context);
  }
}

}  // namespace

cudaError_t PagedAttention(const PagedAttentionParams& params, LaunchContext& context) {
  if (!Supported(params)) return cudaErrorInvalidValue;
  return Dispatch({params, LayOutPlan(params, context), {}, false}, context);
}

cudaError_t RopePagedAttention(const RopeKvWriteParams& rope, const PagedAttentionParams& attention,
                               LaunchContext& context) {
  if (!Supported(attention)) return cudaErrorInvalidValue;
  if (attention.step.max_query == 1 && !attention.batch_invariant && attention.q == rope.qkv) {
    return Dispatch({attention, LayOutPlan(attention, context), rope, true}, context);
  }
  const cudaError_t error = RopeKvWrite(rope, context);
  return error == cudaSuccess ? PagedAttention(attention, context) : error;
}

}  // namespace trireme::cuda
