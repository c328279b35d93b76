// SPDX-License-Identifier: Apache-2.0
#include "device/cuda/cuda_status.h"

namespace trireme::cuda {
namespace {

// "13.0" of 13000.
std::string VersionText(int version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

Status DriverStatus(std::string_view what) {
  int driver = 0;
  int runtime = 0;
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  if (driver == 0) {
    return FailedPrecondition(
        "{}: no NVIDIA driver is installed here; install one that supports CUDA {} or use the "
        "device cpu",
        what, VersionText(runtime));
  }
  return FailedPrecondition(
      "{}: the NVIDIA driver supports CUDA {}, this program needs {}; install a newer driver", what,
      VersionText(driver), VersionText(runtime));
}

}  // namespace

Status CudaStatus(cudaError_t error, std::string_view what) {
  switch (error) {
    case cudaSuccess: return OkStatus();
    case cudaErrorMemoryAllocation: return ResourceExhausted("{}: out of memory on the GPU", what);
    case cudaErrorInsufficientDriver: return DriverStatus(what);
    case cudaErrorNoDevice:
      return FailedPrecondition(
          "{}: the driver finds no GPU; check `nvidia-smi` and CUDA_VISIBLE_DEVICES, or use the "
          "device cpu",
          what);
    case cudaErrorDevicesUnavailable:
      return FailedPrecondition("{}: the GPU is held by another process", what);
    case cudaErrorNoKernelImageForDevice:
      return FailedPrecondition(
          "{}: this program holds no code for this GPU; build it with TRIREME_CUDA_ARCHS of that "
          "GPU",
          what);
    default:
      return Internal("{}: CUDA error {} ({})", what, cudaGetErrorName(error),
                      cudaGetErrorString(error));
  }
}

}  // namespace trireme::cuda
