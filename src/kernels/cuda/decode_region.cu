// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/decode_region.cuh"

namespace trireme::cuda {

template <>
cudaError_t LaunchDecodeRegion<__nv_bfloat16>(const DecodeRegionParams& params,
                                              const DecodeRegionPlan& plan, LaunchContext& context);
template <>
cudaError_t LaunchDecodeRegion<__half>(const DecodeRegionParams& params,
                                       const DecodeRegionPlan& plan, LaunchContext& context);

bool SupportsDecodeRegion(const DecodeRegionParams& params, const DecodeRegionConfig& config,
                          int num_sms) {
  if (params.dtype != Element::kBFloat16 && params.dtype != Element::kFloat16) return false;
  const bool fp8 = params.weight == Element::kFloat8E4M3;
  if (!fp8 && params.weight != params.dtype) return false;
  if (params.activated != params.dtype && !(fp8 && params.activated == Element::kFloat8E4M3)) {
    return false;
  }
  if (params.kv.dtype != params.dtype && params.kv.dtype != Element::kFloat8E4M3) return false;
  DecodeRegionPlan plan;
  return MakeDecodeRegionPlan(params, config, num_sms, &plan);
}

int64_t DecodeRegionWorkspaceBytes(const DecodeRegionParams& params, int num_sms) {
  DecodeRegionPlan plan;
  return MakeDecodeRegionPlan(params, {}, num_sms, &plan) ? plan.workspace_bytes : 0;
}

cudaError_t DecodeRegion(const DecodeRegionParams& params, const DecodeRegionConfig& config,
                         LaunchContext& context) {
  DecodeRegionPlan plan;
  if (!SupportsDecodeRegion(params, config, context.num_sms) || params.step.max_query > 1 ||
      !MakeDecodeRegionPlan(params, config, context.num_sms, &plan)) {
    return cudaErrorInvalidValue;
  }
  if (params.dtype == Element::kBFloat16) {
    return LaunchDecodeRegion<__nv_bfloat16>(params, plan, context);
  }
  return LaunchDecodeRegion<__half>(params, plan, context);
}

}  // namespace trireme::cuda
