// SPDX-License-Identifier: Apache-2.0
// The launches of one cache type's kernels; each type is compiled in a file of its own.
#pragma once

#include "device/cuda/launch.cuh"
#include "kernels/cuda/paged_attention_decode.cuh"
#include "kernels/cuda/paged_attention_prefill.cuh"
#include "kernels/cuda/paged_attention_prefill_sm90.cuh"
#include "kernels/cuda/pool_map.h"

namespace trireme::cuda {

template <typename M, typename Cache, int kDim, int kRowTiles>
cudaError_t LaunchDecodeRows(const AttentionArgs& args, LaunchContext& context) {
  using Config = DecodeConfig<M, Cache, kDim, kRowTiles>;
  const LaunchShape shape{.grid = dim3(static_cast<unsigned>(args.plan.max_blocks)),
                          .block = dim3(Config::kThreads),
                          .shared_bytes = Config::kSharedBytes};
  return Launch(context, "DecodeAttention", shape, DecodeAttentionKernel<M, Cache, kDim, kRowTiles>,
                args);
}

template <typename M, typename Cache, int kDim>
cudaError_t LaunchDecode(const AttentionArgs& args, LaunchContext& context) {
  const bool few_rows = args.p.step.max_query == 1 && args.plan.group <= 8;
  return few_rows ? LaunchDecodeRows<M, Cache, kDim, 1>(args, context)
                  : LaunchDecodeRows<M, Cache, kDim, kDecodeRows / 8>(args, context);
}

template <typename M, typename Cache, int kDim>
cudaError_t LaunchPrefill(const AttentionArgs& args, LaunchContext& context) {
  using Config = PrefillConfig<M, Cache, kDim>;
  const LaunchShape shape{.grid = dim3(static_cast<unsigned>(args.p.kv.num_kv_heads),
                                       static_cast<unsigned>(args.plan.max_prefill_tiles)),
                          .block = dim3(Config::kThreads),
                          .shared_bytes = Config::kSharedBytes};
  return Launch(context, "PrefillAttention", shape, PrefillAttentionKernel<M, Cache, kDim>, args);
}

template <typename T, typename Cache, int kDim, bool kExponents>
cudaError_t LaunchPrefillSm90(const AttentionArgs& args, const CUtensorMap& pool, int box_rows,
                              LaunchContext& context) {
  using Config = PrefillSm90Config<Cache, kDim>;
  const int items = args.plan.max_prefill_tiles * args.p.kv.num_kv_heads;
  const LaunchShape shape{
      .grid = dim3(static_cast<unsigned>(items < context.num_sms ? items : context.num_sms)),
      .block = dim3(Config::kThreads),
      .shared_bytes = Config::kSharedBytes};
  return Launch(context, "PrefillAttentionSm90", shape,
                PrefillAttentionSm90Kernel<T, Cache, kDim, kExponents>,
                PrefillSm90Args{args, pool, box_rows});
}

template <typename M, typename Cache, int kDim>
cudaError_t LaunchAttentionOf(const AttentionArgs& args, LaunchContext& context) {
  if (!args.plan.prefill_only) {
    const cudaError_t error = LaunchDecode<M, Cache, kDim>(args, context);
    if (error != cudaSuccess || args.plan.max_prefill_tiles == 0) return error;
  }
  if constexpr (kDim <= 128) {
    using Config = PrefillSm90Config<Cache, kDim>;
    constexpr int kKeys = Config::kFloat8 ? Config::kStoredKeys : Config::kKeys;
    const KvView& kv = args.p.kv;
    const int box_rows = kv.block_size < kKeys ? kv.block_size : kKeys;
    const bool fits = kv.head_dim == kDim && kv.block_bytes % (kDim * sizeof(Cache)) == 0;
    CUtensorMap pool;
    // A device or driver without the bulk copy engine takes the kernel for every shape.
    if (fits && !args.p.generic_prefill && MakePoolMap(kv, box_rows, pool) == cudaSuccess) {
      const bool exponents = args.p.soft_cap > 0.0f || args.p.alibi_slopes != nullptr;
      return exponents ? LaunchPrefillSm90<M, Cache, kDim, true>(args, pool, box_rows, context)
                       : LaunchPrefillSm90<M, Cache, kDim, false>(args, pool, box_rows, context);
    }
  }
  return LaunchPrefill<M, Cache, kDim>(args, context);
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
