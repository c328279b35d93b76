// SPDX-License-Identifier: Apache-2.0
// Pinned buffers that take turns, so that the host fills one while a copy still reads another.
// Engine thread only.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "device/cuda/buffer.h"
#include "device/cuda/stream.h"

namespace trireme::cuda {

class StagingRing {
 public:
  static StatusOr<StagingRing> Create(int64_t num_bytes);

  // The next buffer, at least so many bytes; waits while a copy still reads it. Grows when asked for
  // more than ever before.
  StatusOr<std::byte*> Next(int64_t num_bytes);
  // Copies a range of the buffer of the last Next to the GPU.
  Status Copy(int64_t offset, int64_t num_bytes, void* target, const Stream& stream);

 private:
  struct Entry {
    PinnedBuffer bytes;
    Event copied;
    bool used = false;
  };
  std::array<Entry, 3> entries_;  // two steps in flight and the one being packed
  size_t current_ = 0;
};

}  // namespace trireme::cuda
