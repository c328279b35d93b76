// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu_variants.h"
#include "kernels/paged_attention_vector.h"
#include "kernels/vector_math_avx2.h"

namespace trireme::kernels {

constinit const AttentionKernels kAvx2AttentionKernels[3] = {
    {RunAttentionTile<Avx2, float>, RunAttentionSpan<Avx2, float>, JoinAttentionSpans<Avx2>},
    {RunAttentionTile<Avx2, float16_t>, RunAttentionSpan<Avx2, float16_t>,
     JoinAttentionSpans<Avx2>},
    {RunAttentionTile<Avx2, bfloat16_t>, RunAttentionSpan<Avx2, bfloat16_t>,
     JoinAttentionSpans<Avx2>},
};

}  // namespace trireme::kernels
