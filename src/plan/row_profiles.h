// SPDX-License-Identifier: Apache-2.0
// Row counts for which tactics of the GPU are chosen and bound. A choice serves up to its count.
#pragma once

#include <cstdint>

namespace trireme::plan {

inline constexpr int64_t kRowProfiles[] = {1,   2,   4,   8,    16,   32,   64,
                                           128, 256, 512, 1024, 2048, 4096, 8192};

}  // namespace trireme::plan
