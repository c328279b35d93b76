// SPDX-License-Identifier: Apache-2.0
// The kernel of decode_region.h, instantiated in one file for each activation type.
#pragma once

#include "device/cuda/launch_cooperative.cuh"
#include "kernels/cuda/decode_region_attention.cuh"

namespace trireme::cuda {

// The layers one after another, by the computing warps.
template <typename T, typename Format, typename Cache, int kRows>
__device__ void RunLayers(const DecodeRegionParams& params, const DecodeRegionPlan& plan,
                          const RegionRing& ring, uint8_t* shared) {
  RegionProducts<T, Format, kRows> products(params, plan, ring, shared);
  RegionAttention<T, Cache> attention(params, plan, shared);
  GridBarrier grid(static_cast<unsigned long long*>(params.workspace),
                   params.num_layers * kRegionStages);
#pragma unroll 1
  for (int layer = 0; layer < params.num_layers; ++layer) {
#pragma unroll 1
    for (int product = 0; product < kRegionProducts; ++product) {
      // By value: after a wait, L1 would have to fetch it again.
      const RegionLinear linear = LinearOf(params.layers[layer], product);
      products.Run(linear, product, layer, grid);
      if (product == 0) attention.Run(params.layers[layer], grid);
    }
  }
}

template <typename T, typename Format, int kRows>
__global__ void __launch_bounds__((kRegionWarps + 1) * 32, 1)
    DecodeRegionKernel(const __grid_constant__ DecodeRegionParams params,
                       const __grid_constant__ DecodeRegionPlan plan) {
  extern __shared__ __align__(128) uint8_t shared[];
  const auto shared_address = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  const RegionRing ring = {shared_address, shared_address + plan.barriers_offset, plan.slot_bytes,
                           plan.slots};
  if (threadIdx.x == 0) ring.Init();
  __syncthreads();
  if (threadIdx.x >= kRegionWarps * 32) {
    if (threadIdx.x == kRegionWarps * 32) StreamWeights(params, plan, ring);
    return;
  }
  if (params.kv.dtype == Element::kFloat8E4M3) {
    RunLayers<T, Format, __nv_fp8_e4m3, kRows>(params, plan, ring, shared);
  } else {
    RunLayers<T, Format, T, kRows>(params, plan, ring, shared);
  }
}

template <typename T, typename Format, int kRows>
cudaError_t LaunchRows(const DecodeRegionParams& params, const DecodeRegionPlan& plan,
                       LaunchContext& context) {
  const LaunchShape shape{.grid = dim3(static_cast<unsigned>(plan.num_blocks)),
                          .block = dim3((kRegionWarps + 1) * 32),
                          .shared_bytes = static_cast<size_t>(plan.shared_bytes)};
  return LaunchCooperative(context, "DecodeRegion", shape, DecodeRegionKernel<T, Format, kRows>,
                           params, plan);
}

template <typename T, typename Format>
cudaError_t LaunchFormat(const DecodeRegionParams& params, const DecodeRegionPlan& plan,
                         LaunchContext& context) {
  switch (params.num_rows) {
    case 1: return LaunchRows<T, Format, 1>(params, plan, context);
    case 2: return LaunchRows<T, Format, 2>(params, plan, context);
    case kMaxRegionRows: return LaunchRows<T, Format, kMaxRegionRows>(params, plan, context);
    default: return cudaErrorInvalidValue;
  }
}

// Of one activation type.
template <typename T>
cudaError_t LaunchDecodeRegion(const DecodeRegionParams& params, const DecodeRegionPlan& plan,
                               LaunchContext& context);

}  // namespace trireme::cuda
