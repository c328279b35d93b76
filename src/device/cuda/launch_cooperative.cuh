// SPDX-License-Identifier: Apache-2.0
// Launches a kernel whose blocks wait for one another: the driver starts all of them or none.
#pragma once

#include <utility>

#include "device/cuda/launch.h"

namespace trireme::cuda {

// As Launch (launch.cuh), but never a programmatic dependent: every block must be resident at once,
// so the launch waits for the predecessor's end. cudaErrorCooperativeLaunchTooLarge when the grid
// does not fit the device.
template <typename... Params, typename... Args>
cudaError_t LaunchCooperative(LaunchContext& context, const char* name, const LaunchShape& shape,
                              void (*kernel)(Params...), Args&&... args) {
  context.last_launch = name;
  const cudaError_t size = cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                                cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                static_cast<int>(shape.shared_bytes));
  if (size != cudaSuccess) return size;
  const cudaError_t split = cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                                 cudaFuncAttributePreferredSharedMemoryCarveout,
                                                 cudaSharedmemCarveoutMaxShared);
  if (split != cudaSuccess) return split;
  cudaLaunchAttribute attribute;
  attribute.id = cudaLaunchAttributeCooperative;
  attribute.val.cooperative = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = context.stream;
  config.attrs = &attribute;
  config.numAttrs = 1;
  ++context.num_launches;
  return cudaLaunchKernelEx(&config, kernel, static_cast<Params>(std::forward<Args>(args))...);
}

}  // namespace trireme::cuda
