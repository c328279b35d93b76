// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/paged_attention_launch.cuh"

namespace trireme::cuda {

cudaError_t LaunchAttentionFloat16(const AttentionArgs& args, LaunchContext& context) {
  return LaunchAttention<__half, __half>(args, context);
}

}  // namespace trireme::cuda
