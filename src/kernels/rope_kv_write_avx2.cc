// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu_variants.h"
#include "kernels/rope_kv_write_vector.h"
#include "kernels/vector_math_avx2.h"

namespace trireme::kernels {

constinit const RopeKvWriteFn kAvx2RopeKvWrite[3] = {
    RopeKvWriteTokens<Avx2, float>,
    RopeKvWriteTokens<Avx2, float16_t>,
    RopeKvWriteTokens<Avx2, bfloat16_t>,
};

}  // namespace trireme::kernels
