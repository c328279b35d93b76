// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu_variants.h"
#include "kernels/rope_kv_write_vector.h"
#include "kernels/vector_math_avx512.h"

namespace trireme::kernels {

constinit const RopeKvWriteFn kAvx512RopeKvWrite[3] = {
    RopeKvWriteTokens<Avx512, float>,
    RopeKvWriteTokens<Avx512, float16_t>,
    RopeKvWriteTokens<Avx512, bfloat16_t>,
};

}  // namespace trireme::kernels
