// SPDX-License-Identifier: Apache-2.0
// The weights of a plan in the memory of the GPU. Immutable once loaded; engine thread only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/thread_pool.h"
#include "device/cuda/buffer.h"
#include "device/cuda/launch.h"
#include "device/cuda/stream.h"
#include "engine/engine_folder.h"

namespace trireme::engine {

class CudaWeights {
 public:
  // Streams the engine's file through two pinned buffers, filled by the threads of `pool` while the
  // other is on its way; draws synthetic weights on the GPU.
  static StatusOr<CudaWeights> Load(const LoadedEngine& engine, ThreadPool& pool,
                                    const cuda::Stream& stream);

  std::byte* weight(int index) const { return data_.data() + offsets_[static_cast<size_t>(index)]; }
  int64_t total_bytes() const { return data_.size(); }

 private:
  cuda::DeviceBuffer data_;
  std::vector<int64_t> offsets_;
};

}  // namespace trireme::engine
