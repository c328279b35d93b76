// SPDX-License-Identifier: Apache-2.0
// Writes tensors as torch.save does: a zip archive of a pickled dictionary and one storage for each
// tensor. Pure function.
#pragma once

#include <string>

#include "base/status.h"
#include "formats/tensor_source.h"

namespace trireme {

// All tensors of `source` under their names. Nothing but tensors is in the file, so that
// torch.load(weights_only=True) takes it. INVALID_ARGUMENT beyond 4 GiB or for dtypes that torch has
// no storage for.
Status WriteTorchBin(const TensorSource& source, const std::string& path);

}  // namespace trireme
