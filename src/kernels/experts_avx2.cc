// SPDX-License-Identifier: Apache-2.0
#include "kernels/experts_vector.h"
#include "kernels/vector_math_avx2.h"

namespace trireme::kernels {

constinit const CombineExpertsFn kAvx2CombineExperts = CombineExpertsRows<Avx2>;

}  // namespace trireme::kernels
