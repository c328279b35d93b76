// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu_variants.h"
#include "kernels/sampling_vector.h"
#include "kernels/vector_math_avx2.h"

namespace trireme::kernels {

constinit const SamplingKernels kAvx2SamplingKernels = {
    .process = ProcessLogits<Avx2>,
    .block_max = BlockMaxima<Avx2>,
    .block_exp_sums = BlockExpSums<Avx2>,
};

}  // namespace trireme::kernels
