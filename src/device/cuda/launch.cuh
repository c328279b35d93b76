// SPDX-License-Identifier: Apache-2.0
// The one place that launches kernels: every launch is checked, counted and named.
#pragma once

#include <utility>

#include "device/cuda/launch.h"

namespace trireme::cuda {

// Launches kernel(args...) on context.stream. More than 48 KB of shared memory is opted into here.
// Never allocates or synchronises, so that it can be captured; debug builds synchronise unless the
// stream is being captured, so that a fault is reported by the launch that made it.
template <typename... Params, typename... Args>
cudaError_t Launch(LaunchContext& context, const char* name, const LaunchShape& shape,
                   void (*kernel)(Params...), Args&&... args) {
  context.last_launch = name;
  if (shape.shared_bytes > 48 * 1024) {
    const cudaError_t error = cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                                   cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                   static_cast<int>(shape.shared_bytes));
    if (error != cudaSuccess) return error;
  }
  // All kernels share one split of L1 and shared memory: a multiprocessor must run empty to change
  // it, so a dependent launch could not start beside a kernel with another split.
  const cudaError_t split = cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                                 cudaFuncAttributePreferredSharedMemoryCarveout,
                                                 cudaSharedmemCarveoutMaxShared);
  if (split != cudaSuccess) return split;
  cudaLaunchAttribute attributes[2];
  unsigned num_attributes = 0;
  if (context.dependent) {
    attributes[num_attributes].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[num_attributes].val.programmaticStreamSerializationAllowed = 1;
    ++num_attributes;
  }
  if (shape.cluster > 1) {
    attributes[num_attributes].id = cudaLaunchAttributeClusterDimension;
    attributes[num_attributes].val.clusterDim.x = static_cast<unsigned>(shape.cluster);
    attributes[num_attributes].val.clusterDim.y = 1;
    attributes[num_attributes].val.clusterDim.z = 1;
    ++num_attributes;
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = context.stream;
  config.attrs = attributes;
  config.numAttrs = num_attributes;
  ++context.num_launches;
  const cudaError_t error =
      cudaLaunchKernelEx(&config, kernel, static_cast<Params>(std::forward<Args>(args))...);
  if (error != cudaSuccess) return error;
#ifndef NDEBUG
  cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
  if (cudaStreamIsCapturing(context.stream, &capture) == cudaSuccess &&
      capture == cudaStreamCaptureStatusNone) {
    return cudaStreamSynchronize(context.stream);
  }
#endif
  return cudaSuccess;
}

}  // namespace trireme::cuda
