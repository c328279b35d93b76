// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu_variants.h"
#include "kernels/sampling_vector.h"
#include "kernels/vector_math_avx512.h"

namespace trireme::kernels {

constinit const SamplingKernels kAvx512SamplingKernels = {
    .process = ProcessLogits<Avx512>,
    .block_max = BlockMaxima<Avx512>,
    .block_exp_sums = BlockExpSums<Avx512>,
};

}  // namespace trireme::kernels
