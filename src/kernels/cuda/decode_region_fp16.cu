// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/decode_region.cuh"

namespace trireme::cuda {

template <>
cudaError_t LaunchDecodeRegion<__half>(const DecodeRegionParams& params,
                                       const DecodeRegionPlan& plan, LaunchContext& context) {
  if (params.weight == Element::kFloat8E4M3) {
    return LaunchFormat<__half, E4M3Weight>(params, plan, context);
  }
  return LaunchFormat<__half, SixteenBitWeight<__half, MmaFloat16>>(params, plan, context);
}

}  // namespace trireme::cuda
