// SPDX-License-Identifier: Apache-2.0
// KV blocks of a sequence whose layers all attend through a sliding window. Pure function.
#pragma once

#include <cstdint>

namespace trireme {

// The most blocks the sequence holds at once when a step adds up to `step_tokens` tokens and those
// that the next token's window has left are given back after it: the window, which may begin at the
// end of a block, the step, and the remembered prefix, which stays and is no longer than a window.
inline int64_t WindowBlocks(int64_t window, int64_t step_tokens, int block_size) {
  return (window + step_tokens - 1 + block_size - 1) / block_size + 1 + window / block_size;
}

}  // namespace trireme
