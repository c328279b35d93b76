// SPDX-License-Identifier: Apache-2.0
#include "kernels/experts_vector.h"
#include "kernels/vector_math_avx512.h"

namespace trireme::kernels {

constinit const CombineExpertsFn kAvx512CombineExperts = CombineExpertsRows<Avx512>;

}  // namespace trireme::kernels
