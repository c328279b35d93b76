// SPDX-License-Identifier: Apache-2.0
// Device part of gemv.cu: the stream of weights through a block's ring.
#pragma once

#include "kernels/cuda/gemv.cuh"
#include "kernels/cuda/gemv_plan.h"

namespace trireme::cuda {

// The place of a thread in the tensor cores' operands: row `group` (and + 8) of a tile, column
// `group` of x, and the lane's share of each chunk.
struct LanePlace {
  int warp = static_cast<int>(threadIdx.x) / 32;
  int group = static_cast<int>(threadIdx.x) % 32 / 4;
  int quad = static_cast<int>(threadIdx.x) % 4;
};

// Walks the steps of a warp through phases, tiles and chunks, loading ahead of the arithmetic.
template <int kWarps>
class WeightStream {
 public:
  __device__ WeightStream(const GemvParams& params, const GemvPlan& plan, int first_tile,
                          int last_tile)
      : w_(static_cast<const uint8_t*>(params.w)),
        row_bytes_(params.in_features * (params.weight == Element::kFloat8E4M3 ? 1 : 2)),
        rows_a_tile_(params.gated ? kGemvTileRows / 2 : kGemvTileRows),
        second_row_(params.gated ? params.out_features / 2 : kGemvTileRows / 2),
        second_delta_(int64_t{second_row_} * row_bytes_),
        out_features_(params.out_features),
        phase_chunks_(plan.phase_chunks),
        num_phases_(plan.num_phases),
        first_tile_(first_tile),
        last_tile_(last_tile),
        tile_(first_tile),
        remaining_(phase_chunks_ / kWarps) {
    Seek();
  }

  // Starts the copies of a step: the thread's 16 bytes at two places of a chunk of rows g and g + 8,
  // to slot[row * 2 + place], kWarps * 32 uint4 apart.
  __device__ void Load(uint32_t slot) {
    constexpr uint32_t kPlace = kWarps * 32 * 16;
    const bool near = offset_ < end_;
    const bool far = offset_ + kGemvChunkBytes / 2 < end_;
    StreamCopy(slot, address_, near);
    StreamCopy(slot + kPlace, address_ + kGemvChunkBytes / 2, far);
    StreamCopy(slot + 2 * kPlace, address_ + second_delta_, near && second_valid_);
    StreamCopy(slot + 3 * kPlace, address_ + second_delta_ + kGemvChunkBytes / 2,
               far && second_valid_);
    StreamCommit();
    Advance();
  }

 private:
  __device__ void Advance() {
    address_ += kWarps * kGemvChunkBytes;
    offset_ += kWarps * kGemvChunkBytes;
    if (--remaining_ > 0) return;
    remaining_ = phase_chunks_ / kWarps;
    if (++tile_ == last_tile_) {
      tile_ = first_tile_;
      ++phase_;
    }
    Seek();
  }

  __device__ void Seek() {
    const LanePlace place;
    end_ = phase_ < num_phases_ && tile_ < last_tile_ ? row_bytes_ : 0;
    const int row = tile_ * rows_a_tile_ + place.group;
    offset_ = (phase_ * phase_chunks_ + place.warp) * kGemvChunkBytes + place.quad * 16;
    address_ = w_ + int64_t{row} * row_bytes_ + offset_;
    second_valid_ = row + second_row_ < out_features_;
  }

  const uint8_t* w_;
  int row_bytes_;
  int rows_a_tile_;
  int second_row_;  // rows between the two rows of a lane
  int64_t second_delta_;
  int out_features_;
  int phase_chunks_;
  int num_phases_;
  int first_tile_;
  int last_tile_;
  int phase_ = 0;
  int tile_;
  int remaining_;   // steps of the tile
  int offset_ = 0;  // in the row
  int end_ = 0;
  const uint8_t* address_ = nullptr;
  bool second_valid_ = false;
};

// Asks the L2 for the first bytes of the block's part of W.
__device__ inline void PrefetchWeights(const GemvParams& params, int l2_prefetch_bytes,
                                       int first_tile, int last_tile) {
  constexpr int kSpan = 4096;
  const int branches = params.gated ? 2 : 1;
  const int rows = kGemvTileRows / branches;
  const int row_bytes = params.in_features * (params.weight == Element::kFloat8E4M3 ? 1 : 2);
  for (int branch = 0; branch < branches; ++branch) {
    const int first_row = branch * (params.out_features / 2) + first_tile * rows;
    const int end_row = min(first_row + (last_tile - first_tile) * rows, params.out_features);
    const int64_t owned = int64_t{end_row - first_row} * row_bytes;
    const int64_t wanted = l2_prefetch_bytes / branches;
    const int64_t bytes = wanted < owned ? wanted : owned;
    const uint8_t* base = static_cast<const uint8_t*>(params.w) + int64_t{first_row} * row_bytes;
    for (int64_t at = int64_t{threadIdx.x} * kSpan; at < bytes; at += int64_t{blockDim.x} * kSpan) {
      const int64_t left = bytes - at;
      PrefetchSpanToL2(base + at, static_cast<int>(left < kSpan ? left / 16 * 16 : kSpan));
    }
  }
}

}  // namespace trireme::cuda
