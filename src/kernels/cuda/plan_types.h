// SPDX-License-Identifier: Apache-2.0
// Kernel parameters from the words of networks and plans. Host code, C++20. Pure functions.
#pragma once

#include "base/status.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/rope_kv_write.h"
#include "kernels/cuda/types.h"
#include "tensor/dtype.h"
#include "tensor/quant_spec.h"
#include "trireme/network.h"

namespace trireme::cuda {

StatusOr<Element> ElementOf(DType dtype);
Activation ActivationOf(ActivationKind kind);
RotaryStyle RotaryStyleOf(RotaryKind kind);

// cuBLASLt adds a 16-bit bias to 16-bit outputs only: the bias of a layer that makes logits is added
// by a launch of its own.
inline bool AddsBiasApart(const LinearAttrs& attrs, DType y_dtype) {
  return attrs.has_bias && y_dtype == DType::kFloat32;
}

struct LinearTypes {
  DType dtype = DType::kBFloat16;  // of the engine
  DType x = DType::kBFloat16;      // of the layer's input and output
  DType y = DType::kBFloat16;
};
StatusOr<LinearProblem> LinearProblemOf(const LinearAttrs& attrs, const LinearTypes& types,
                                        const WeightQuant& quant);

}  // namespace trireme::cuda
