// SPDX-License-Identifier: Apache-2.0
// NaN and infinity in tensors. Pure functions.
#pragma once

#include "tensor/tensor_view.h"

namespace trireme {

// Whether a float tensor holds a NaN or an infinity (fp8 has no infinity).
bool HasNonFinite(const TensorView& tensor);

}  // namespace trireme
