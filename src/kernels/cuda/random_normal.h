// SPDX-License-Identifier: Apache-2.0
// Synthetic weights: `count` values of N(0, std). Element i depends on (seed, i) alone, whatever the
// dtype or launch shape: Philox4x32-10 of counter i / 4, Box-Muller, in float32, rounded once.
//
// | operand | dtype                     | shape   | notes           |
// |---------|---------------------------|---------|-----------------|
// | y       | float32, bf16, fp16, e4m3 | [count] | 16-byte aligned |
//
// Bound by arithmetic in 8- and 16-bit types, else by bandwidth. sm_80 up.
#pragma once

#include "device/cuda/launch.h"
#include "kernels/cuda/types.h"

namespace trireme::cuda {

struct RandomNormalParams {
  Element dtype = Element::kBFloat16;
  void* y = nullptr;
  int64_t count = 0;
  float std = 1.0f;
  uint64_t seed = 0;
};

// cudaErrorInvalidValue for operands outside the table above.
cudaError_t RandomNormal(const RandomNormalParams& params, LaunchContext& context);

}  // namespace trireme::cuda
