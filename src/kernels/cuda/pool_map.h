// SPDX-License-Identifier: Apache-2.0
// How the bulk copy engine sees the KV pool: rows of one token's head, in boxes of 64 columns and
// some rows, swizzled in shared memory by its 128-byte pattern; FP8: whole rows, as they are.
// Thread-safe. C++17.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include "kernels/cuda/types.h"

namespace trireme::cuda {

// cudaErrorNotSupported where the driver has no such function, cudaErrorInvalidValue for a pool
// that it cannot describe.
cudaError_t MakePoolMap(const KvView& kv, int box_rows, CUtensorMap& map);

}  // namespace trireme::cuda
