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

// What stands for the scales of a synthetic FP8 layer: weights N(0, std) use 1/28 of e4m3's range,
// inputs up to 13 are not clipped.
inline constexpr float kSyntheticWeightScale = 0.02f / 16.0f;
inline constexpr float kSyntheticInputScale = 0.03f;

class CudaWeights {
 public:
  // Streams the engine's file through two pinned buffers, filled by the threads of `pool` while the
  // other is on its way; draws synthetic weights on the GPU.
  static StatusOr<CudaWeights> Load(const LoadedEngine& engine, ThreadPool& pool,
                                    const cuda::Stream& stream);

  std::byte* weight(int index) const { return data_.data() + offsets_[static_cast<size_t>(index)]; }
  // The largest of a small float32 weight: the scale of an FP8 tensor. It must be positive.
  StatusOr<float> LargestScale(const plan::Plan& plan, int index) const;
  int64_t total_bytes() const { return data_.size(); }

 private:
  cuda::DeviceBuffer data_;
  std::vector<int64_t> offsets_;
};

}  // namespace trireme::engine
