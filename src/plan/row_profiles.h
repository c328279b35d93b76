// SPDX-License-Identifier: Apache-2.0
// Row counts for which tactics of the GPU are chosen and bound. A choice serves up to its count.
#pragma once

#include <algorithm>
#include <cstdint>

namespace trireme::plan {

inline constexpr int64_t kRowProfiles[] = {1,   2,   4,   8,    16,   32,   64,
                                           128, 256, 512, 1024, 2048, 4096, 8192};

// Rows of logits that a GPU session computes at once; more are computed in several passes.
constexpr int64_t MaxLogitRows(int64_t max_batch_size) {
  return std::max<int64_t>(max_batch_size, 64);
}

}  // namespace trireme::plan
