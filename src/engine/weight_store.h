// SPDX-License-Identifier: Apache-2.0
// The bytes of a plan's weights in host memory: used in place from the engine's map, or made at load
// when they are synthetic. Immutable once made.
#pragma once

#include <cstddef>
#include <vector>

#include "base/aligned_buffer.h"
#include "base/thread_pool.h"
#include "engine/engine_folder.h"

namespace trireme::engine {

class WeightStore {
 public:
  // Borrows the engine's file.
  static StatusOr<WeightStore> Make(const LoadedEngine& engine, ThreadPool& pool);

  const std::byte* weight(int index) const { return pointers_[static_cast<size_t>(index)]; }

 private:
  std::vector<const std::byte*> pointers_;
  AlignedBuffer synthetic_;
};

}  // namespace trireme::engine
