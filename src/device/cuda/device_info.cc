// SPDX-License-Identifier: Apache-2.0
#include "device/cuda/device_info.h"

#include <cuda_runtime_api.h>

#include "device/cuda/cuda_status.h"

namespace trireme::cuda {
namespace {

// Kernels use warp-wide bf16 matrix instructions and asynchronous copies.
constexpr int kMinComputeMajor = 8;

}  // namespace

StatusOr<DeviceInfo> GetDeviceInfo() {
  int count = 0;
  TRIREME_CUDA_RETURN_IF_ERROR(cudaGetDeviceCount(&count), "looking for a GPU");
  if (count == 0) return CudaStatus(cudaErrorNoDevice, "looking for a GPU");
  cudaDeviceProp properties;
  TRIREME_CUDA_RETURN_IF_ERROR(cudaGetDeviceProperties(&properties, 0), "reading the GPU's limits");
  DeviceInfo info;
  info.name = properties.name;
  TRIREME_CUDA_RETURN_IF_ERROR(cudaDriverGetVersion(&info.driver_version),
                               "reading the driver's version");
  info.compute_major = properties.major;
  info.compute_minor = properties.minor;
  info.num_sms = properties.multiProcessorCount;
  info.total_bytes = static_cast<int64_t>(properties.totalGlobalMem);
  info.l2_bytes = properties.l2CacheSize;
  if (info.compute_major < kMinComputeMajor) {
    return FailedPrecondition("the GPU '{}' has compute capability {}.{}; {}.0 is needed",
                              info.name, info.compute_major, info.compute_minor, kMinComputeMajor);
  }
  return info;
}

std::string DeviceText() {
  const StatusOr<DeviceInfo> info = GetDeviceInfo();
  if (!info.ok()) return std::string(info.status().message());
  return fmt::format("{}, compute capability {}.{}, {:.0f} GB, driver for CUDA {}.{}", info->name,
                     info->compute_major, info->compute_minor,
                     static_cast<double>(info->total_bytes) / 1e9, info->driver_version / 1000,
                     info->driver_version % 1000 / 10);
}

}  // namespace trireme::cuda
