// SPDX-License-Identifier: Apache-2.0
#include "device/cuda/buffer.h"

#include <cuda_runtime_api.h>

#include "device/cuda/cuda_status.h"

namespace trireme::cuda {

template <MemoryKind kKind>
StatusOr<Buffer<kKind>> Buffer<kKind>::Allocate(int64_t num_bytes, const char* what) {
  Buffer buffer;
  if (num_bytes == 0) return buffer;
  void* data = nullptr;
  const size_t size = static_cast<size_t>(num_bytes);
  const cudaError_t error =
      kKind == MemoryKind::kDevice ? cudaMalloc(&data, size) : cudaMallocHost(&data, size);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // the device is well: forget the error
    if (kKind == MemoryKind::kPinned) {
      return ResourceExhausted("{}: {} bytes of pinned memory are not to be had", what, num_bytes);
    }
    return ResourceExhausted("{}: {} bytes wanted on the GPU, {} are free", what, num_bytes,
                             FreeDeviceBytes().value_or(0));
  }
  TRIREME_CUDA_RETURN_IF_ERROR(error, what);
  buffer.data_ = static_cast<std::byte*>(data);
  buffer.size_ = num_bytes;
  return buffer;
}

// An error of a free is an old error of the device, which its launch has reported.
template <MemoryKind kKind>
Buffer<kKind>::~Buffer() {
  if (data_ == nullptr) return;
  kKind == MemoryKind::kDevice ? cudaFree(data_) : cudaFreeHost(data_);
}

template class Buffer<MemoryKind::kDevice>;
template class Buffer<MemoryKind::kPinned>;

StatusOr<int64_t> FreeDeviceBytes() {
  size_t free = 0;
  size_t total = 0;
  TRIREME_CUDA_RETURN_IF_ERROR(cudaMemGetInfo(&free, &total), "asking for free memory");
  return static_cast<int64_t>(free);
}

}  // namespace trireme::cuda
