// SPDX-License-Identifier: Apache-2.0
// How the blocks of a Gemv go through W and lay out shared memory. C++17; pure function.
#pragma once

#include "kernels/cuda/gemv.h"

namespace trireme::cuda {

constexpr int kGemvTileRows = 16;     // rows of W a tile: 8 of each branch of a gated layer
constexpr int kGemvChunkBytes = 128;  // of one row, that a warp multiplies in one step

// Shared memory, in this order:
//   ring      depth x 4 x threads x 16 bytes
//   gamma     in_features, T
//   bias      block_rows, T
//   residual  num_rows x block_rows, T
//   x         num_rows rows of x_row_bytes
//   partial   group_tiles x warps x num_rows x 16, float32
//   squares   a sum for each warp, float32
struct GemvPlan {
  int num_tiles = 0;
  int num_blocks = 0;
  int block_tiles = 0;    // of each block,
  int longer_blocks = 0;  // and one more of each of the first so many
  int num_chunks = 0;     // of a row of W
  int num_phases = 0;     // x is staged in so many parts
  int phase_chunks = 0;   // a multiple of the warps
  int group_tiles = 0;    // tiles of a block between two additions over its warps
  int block_rows = 0;     // of W, of the block with most tiles
  int x_row_bytes = 0;
  int gamma_offset = 0;
  int bias_offset = 0;
  int residual_offset = 0;
  int x_offset = 0;
  int partial_offset = 0;
  int squares_offset = 0;
  int shared_bytes = 0;  // never so few that two blocks fit a multiprocessor
};

// False when the problem does not fit a block's shared memory.
bool MakeGemvPlan(const GemvParams& params, const GemvConfig& config, int num_sms, GemvPlan* plan);

}  // namespace trireme::cuda
