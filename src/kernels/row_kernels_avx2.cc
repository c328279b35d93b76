// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu_variants.h"
#include "kernels/elementwise_vector.h"
#include "kernels/norm_vector.h"
#include "kernels/vector_math_avx2.h"

namespace trireme::kernels {

constinit const RowKernels kAvx2RowKernels = {
    .rms_norm = RmsNormRows<Avx2>,
    .layer_norm = LayerNormRows<Avx2>,
    .activate = ActivateRows<Avx2>,
    .embedding = EmbeddingRows<Avx2>,
    .add = AddRows<Avx2>,
    .mul = MulRows<Avx2>,
    .scale = ScaleRows<Avx2>,
    .soft_cap = SoftCapRows<Avx2>,
};

}  // namespace trireme::kernels
