// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/paged_attention_launch.cuh"

namespace trireme::cuda {

cudaError_t LaunchAttentionBFloat16(const AttentionArgs& args, LaunchContext& context) {
  return LaunchAttention<__nv_bfloat16, __nv_bfloat16>(args, context);
}

}  // namespace trireme::cuda
