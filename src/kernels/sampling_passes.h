// SPDX-License-Identifier: Apache-2.0
// The passes over a whole row that sampling has per instruction set (sampling_vector.h). Plain data.
#pragma once

#include <cstdint>

namespace trireme::kernels {

constexpr int64_t kSampleBlock = 64;

struct SamplingKernels {
  void (*process)(const float* x, const float* bias, float divisor, float* y, int64_t size);
  void (*block_max)(const float* x, int64_t size, float* maxima);
  void (*block_exp_sums)(const float* x, int64_t size, float shift, float* sums);
};

}  // namespace trireme::kernels
