// SPDX-License-Identifier: Apache-2.0
// Zeroed, page-backed memory aligned to 64 bytes or more. Move-only; not thread-safe to move.
//
// Pages are taken from the system when they are first written, so a buffer sized for a limit costs
// what is used of it.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <utility>

#include "base/check.h"

namespace trireme {

class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  // Aborts when the system has no address space left; size limits are checked by the caller.
  explicit AlignedBuffer(int64_t size) : size_(size) {
    if (size == 0) return;
    void* data = ::mmap(nullptr, static_cast<size_t>(size), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    TRIREME_CHECK(data != MAP_FAILED);
    data_ = static_cast<std::byte*>(data);
  }
  AlignedBuffer(AlignedBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~AlignedBuffer() {
    if (data_ != nullptr) ::munmap(data_, static_cast<size_t>(size_));
  }

  // Asks for huge pages; a system without them ignores it.
  void UseHugePages() {
    if (data_ != nullptr) (void)::madvise(data_, static_cast<size_t>(size_), MADV_HUGEPAGE);
  }

  std::byte* data() { return data_; }
  const std::byte* data() const { return data_; }
  int64_t size() const { return size_; }
  template <typename T>
  T* as() {
    return reinterpret_cast<T*>(data_);
  }

 private:
  std::byte* data_ = nullptr;
  int64_t size_ = 0;
};

}  // namespace trireme
