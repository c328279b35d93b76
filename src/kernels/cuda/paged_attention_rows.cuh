// SPDX-License-Identifier: Apache-2.0
// Which keys the packed rows of a sequence see. Pure functions.
#pragma once

#include "kernels/cuda/paged_attention_plan.h"

namespace trireme::cuda {

struct SequenceRows {
  int first_token;  // row of the step
  int context;      // tokens in the cache before this step
  int query_len;
  int group;
  int window;             // 0: all positions
  int rows;               // query_len * group
  bool prefills = false;  // however few the rows are

  __device__ int length() const { return context + query_len; }
  __device__ bool decodes() const {
    return !prefills && rows > 0 && (query_len == 1 || rows <= kDecodeRows);
  }
  // Place in the sequence of packed row `row`.
  __device__ int place(int row) const { return query_len == 1 ? context : context + row / group; }
  // Keys [first_key(row), place(row)] are seen by `row`.
  __device__ int first_key(int row) const {
    const int first = window > 0 ? place(row) - window + 1 : 0;
    return first > 0 ? first : 0;
  }
  // Tiles of `keys` keys that the rows [first, last] see together.
  __device__ int num_tiles(int first, int last, int keys) const {
    return place(last) / keys + 1 - first_key(first) / keys;
  }
  // Of a decode item; its row groups all take the same.
  __device__ int decode_tiles() const { return num_tiles(0, rows - 1, kDecodeTile); }
};

__device__ inline SequenceRows RowsOf(const int32_t* cu_query_lens, const int32_t* context_lens,
                                      int seq, int group, int window) {
  const int first = cu_query_lens[seq];
  const int query_len = cu_query_lens[seq + 1] - first;
  return {first, context_lens[seq], query_len, group, window, query_len * group};
}

// Worker w's share of the decode tiles is [FirstTileOfWorker(w), FirstTileOfWorker(w + 1)) where no item
// is left whole.
__device__ inline int FirstTileOfWorker(int worker, int workers, int tiles) {
  return static_cast<int>(int64_t{tiles} * worker / workers);
}
__device__ inline int WorkerOfTile(int tile, int workers, int tiles) {
  return static_cast<int>(((int64_t{tile} + 1) * workers + tiles - 1) / tiles) - 1;
}

}  // namespace trireme::cuda
