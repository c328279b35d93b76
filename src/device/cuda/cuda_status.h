// SPDX-License-Identifier: Apache-2.0
// CUDA errors as Statuses. Host code. Thread-safe.
#pragma once

#include <cuda_runtime_api.h>

#include <string_view>

#include "base/status.h"

namespace trireme::cuda {

// `what` names the call or launch. Out of memory is RESOURCE_EXHAUSTED; a missing, busy or too old
// driver or device is FAILED_PRECONDITION and names the remedy; anything else is INTERNAL.
Status CudaStatus(cudaError_t error, std::string_view what);

#define TRIREME_CUDA_RETURN_IF_ERROR(expression, what)                                            \
  do {                                                                                            \
    if (const cudaError_t trireme_cuda_error = (expression); trireme_cuda_error != cudaSuccess) { \
      return ::trireme::cuda::CudaStatus(trireme_cuda_error, (what));                             \
    }                                                                                             \
  } while (false)

}  // namespace trireme::cuda
