// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/paged_attention_launch.cuh"

namespace trireme::cuda {

cudaError_t LaunchAttentionFloat8(const AttentionArgs& args, LaunchContext& context) {
  return LaunchAttention<__half, __nv_fp8_e4m3>(args, context);
}

}  // namespace trireme::cuda
