// SPDX-License-Identifier: Apache-2.0
// How a decode worker walks over its share of the plan, and who else has parts of an item. Pure
// functions of the plan's tables, which they read.
#pragma once

#include "kernels/cuda/paged_attention_tile.cuh"

namespace trireme::cuda {

// Of a power of two.
__device__ inline int Log2Of(int n) { return __ffs(n) - 1; }

// A run of one item's key tiles.
struct DecodePiece {
  SequenceRows s;
  int seq;
  int kv_head;
  int row0;
  int first_key;   // that any row sees
  int first_tile;  // absolute
  int num_tiles;
  bool whole;  // the item is this piece alone
  bool last;   // holds the item's last tile
};

// kOneQuery: every sequence has one query, which spares divisions.
template <bool kOneQuery>
__device__ SequenceRows RowsOfWork(const AttentionArgs& a, const DecodeWorker& work) {
  const int query_len = kOneQuery ? 1 : work.query_len;
  return {work.first_token, work.context, query_len,
          a.plan.group,     a.p.window,   query_len * a.plan.group};
}

// The part of `work`'s first item that is the worker's.
template <bool kOneQuery>
__device__ DecodePiece PieceOf(const AttentionArgs& a, const DecodeWorker& work) {
  DecodePiece piece;
  piece.s = RowsOfWork<kOneQuery>(a, work);
  const int item_tiles = piece.s.decode_tiles();
  piece.seq = work.seq;
  piece.kv_head = a.plan.row_groups == 1 ? work.unit : work.unit / a.plan.row_groups;
  piece.row0 = (work.unit - piece.kv_head * a.plan.row_groups) * kDecodeRows;
  piece.first_key = piece.s.first_key(piece.row0);
  piece.first_tile = piece.s.first_key(0) / kDecodeTile + work.tile;
  piece.num_tiles = min(work.num_tiles, item_tiles - work.tile);
  piece.whole = piece.num_tiles == item_tiles;
  piece.last = work.tile + piece.num_tiles == item_tiles;
  return piece;
}

// Where the result of the piece's row `row` begins.
__device__ inline int64_t OutputOf(const AttentionArgs& a, const DecodePiece& piece, int row) {
  const int packed = piece.row0 + row;
  const int64_t token = piece.s.first_token + packed / piece.s.group;
  const int head = piece.kv_head * piece.s.group + packed % piece.s.group;
  return token * a.p.out_stride + int64_t{head} * a.p.kv.head_dim;
}

// Moves `work` past a piece of `tiles` tiles to the next item that has any; at the end it stays.
__device__ inline void Advance(const AttentionArgs& a, int tiles, DecodeWorker& work) {
  work.num_tiles -= tiles;
  if (work.num_tiles == 0) return;
  work.tile = 0;
  if (++work.unit < a.plan.units) return;
  work.unit = 0;
  do {
    ++work.seq;
  } while (a.plan.tile_offsets[work.seq] == a.plan.tile_offsets[work.seq + 1]);
  const SequenceRows s =
      RowsOf(a.p.step.cu_query_lens, a.p.step.context_lens, work.seq, a.plan.group, a.p.window);
  work.first_token = s.first_token;
  work.context = s.context;
  work.query_len = s.query_len;
}

// The workers that have parts of an item.
struct ItemParts {
  int item;
  int first_worker;
  int last_worker;
};

}  // namespace trireme::cuda
