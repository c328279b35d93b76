// SPDX-License-Identifier: Apache-2.0
// The kernel problem of a linear op. Pure function.
#pragma once

#include "kernels/linear.h"
#include "trireme/network.h"

namespace trireme::kernels {

LinearProblem LinearProblemOf(const LinearAttrs& attrs, DType dtype, const WeightQuant& quant);

}  // namespace trireme::kernels
