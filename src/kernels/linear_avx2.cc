// SPDX-License-Identifier: Apache-2.0
#include "kernels/linear_variant.h"
namespace trireme::kernels {
std::span<const LinearVariant> Avx2LinearVariants() { return {}; }
}  // namespace trireme::kernels
