// SPDX-License-Identifier: Apache-2.0
// Memory of the GPU and pinned memory of the host, owned. Move-only; not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "base/status.h"

namespace trireme::cuda {

enum class MemoryKind { kDevice, kPinned };

template <MemoryKind kKind>
class Buffer {
 public:
  Buffer() = default;
  // RESOURCE_EXHAUSTED names `what`, the size and what is free. Zero bytes: an empty buffer.
  static StatusOr<Buffer> Allocate(int64_t num_bytes, const char* what);
  Buffer(Buffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~Buffer();

  std::byte* data() const { return data_; }
  int64_t size() const { return size_; }
  template <typename T>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }

 private:
  std::byte* data_ = nullptr;
  int64_t size_ = 0;
};

using DeviceBuffer = Buffer<MemoryKind::kDevice>;
using PinnedBuffer = Buffer<MemoryKind::kPinned>;

// Bytes of the GPU that nobody holds.
StatusOr<int64_t> FreeDeviceBytes();

}  // namespace trireme::cuda
