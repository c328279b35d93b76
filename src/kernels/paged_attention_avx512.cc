// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu_variants.h"
#include "kernels/paged_attention_vector.h"
#include "kernels/vector_math_avx512.h"

namespace trireme::kernels {

constinit const AttentionKernels kAvx512AttentionKernels[3] = {
    {RunAttentionTile<Avx512, float>, RunAttentionSpan<Avx512, float>, JoinAttentionSpans<Avx512>},
    {RunAttentionTile<Avx512, float16_t>, RunAttentionSpan<Avx512, float16_t>,
     JoinAttentionSpans<Avx512>},
    {RunAttentionTile<Avx512, bfloat16_t>, RunAttentionSpan<Avx512, bfloat16_t>,
     JoinAttentionSpans<Avx512>},
};

}  // namespace trireme::kernels
