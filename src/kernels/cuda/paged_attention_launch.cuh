// SPDX-License-Identifier: Apache-2.0
// The launches of one cache type's kernels; each type is compiled in a file of its own.
#pragma once

#include "device/cuda/launch.cuh"
#include "kernels/cuda/paged_attention_decode.cuh"
#include "kernels/cuda/paged_attention_prefill.cuh"

namespace trireme::cuda {

template <typename M, typename Cache, int kDim>
cudaError_t LaunchAttentionOf(const AttentionArgs& args, LaunchContext& context) {
  using Decode = DecodeConfig<M, Cache, kDim>;
  using Prefill = PrefillConfig<M, Cache, kDim>;
  const LaunchShape decode{.grid = dim3(static_cast<unsigned>(args.plan.max_workers)),
                           .block = dim3(Decode::kThreads),
                           .shared_bytes = Decode::kSharedBytes};
  const cudaError_t error = Launch(context, "DecodeAttention", decode,
                                   DecodeAttentionKernel<M, Cache, kDim>, args);
  if (error != cudaSuccess || args.plan.max_prefill_tiles == 0) return error;
  const LaunchShape prefill{.grid = dim3(static_cast<unsigned>(args.p.kv.num_kv_heads),
                                         static_cast<unsigned>(args.plan.max_prefill_tiles)),
                            .block = dim3(Prefill::kThreads),
                            .shared_bytes = Prefill::kSharedBytes};
  return Launch(context, "PrefillAttention", prefill, PrefillAttentionKernel<M, Cache, kDim>, args);
}

template <typename M, typename Cache>
cudaError_t LaunchAttention(const AttentionArgs& args, LaunchContext& context) {
  if (args.p.kv.head_dim <= 64) return LaunchAttentionOf<M, Cache, 64>(args, context);
  if (args.p.kv.head_dim <= 128) return LaunchAttentionOf<M, Cache, 128>(args, context);
  return LaunchAttentionOf<M, Cache, 256>(args, context);
}

cudaError_t LaunchAttentionBFloat16(const AttentionArgs& args, LaunchContext& context);
cudaError_t LaunchAttentionFloat16(const AttentionArgs& args, LaunchContext& context);
cudaError_t LaunchAttentionFloat8(const AttentionArgs& args, LaunchContext& context);

}  // namespace trireme::cuda
