// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu_variants.h"
#include "kernels/elementwise_vector.h"
#include "kernels/norm_vector.h"
#include "kernels/vector_math_avx512.h"

namespace trireme::kernels {

constinit const RowKernels kAvx512RowKernels = {
    .rms_norm = RmsNormRows<Avx512>,
    .layer_norm = LayerNormRows<Avx512>,
    .activate = ActivateRows<Avx512>,
    .embedding = EmbeddingRows<Avx512>,
    .add = AddRows<Avx512>,
    .mul = MulRows<Avx512>,
    .scale = ScaleRows<Avx512>,
    .soft_cap = SoftCapRows<Avx512>,
};

}  // namespace trireme::kernels
