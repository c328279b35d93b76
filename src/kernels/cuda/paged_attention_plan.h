// SPDX-License-Identifier: Apache-2.0
// Who works on which keys in one step: the tables that PlanPagedAttention writes and the attention
// kernels read. C++17. Plain data in device memory.
//
// Queries are packed by KV head: row r of (sequence, KV head) is query r / group of query head
// kv_head * group + r % group, so that a tile of rows shares its keys.
//
// Decode: a sequence with at most kDecodeRows rows (or one query) has units = num_kv_heads * row
// groups items, each a run of key tiles (kDecodeTile keys, at absolute multiples of it). All items'
// tiles, laid end to end, are cut into equal shares, one a worker, so that every processor reads
// the same number of bytes whatever the lengths are; but an item that is small beside a share is not
// cut. A worker is a warp; neighbours share a block:
//
//   items    | seq 0, unit 0      | seq 0, unit 1      | seq 1, unit 0 | seq 1, unit 1 |
//   workers  | 0       | 1       | 2       | 3       | 4        | 5       | 6       |
//
// An item that lies in several workers' shares is summed from their partial results: first those of
// each block, then the blocks' by whichever comes last, both in the workers' order. A worker has at
// most one partial result of an item that began before its share (slot 2 w) and one of an item that
// goes on after it (slot 2 w + 1); a block likewise, in slots behind the workers'.
//
// Prefill: the other sequences' rows in tiles of kPrefillRows, longest key range first.
#pragma once

#include <cstdint>

#include "kernels/cuda/paged_attention.h"

namespace trireme::cuda {

constexpr int kKeyTile = 64;     // of the prefill kernel for every shape
constexpr int kDecodeTile = 32;  // keys
constexpr int kDecodeRows = 16;
constexpr int kPrefillRows = 128;
// Shares below this many key tiles cost more to sum than they save.
constexpr int kMinTilesPerWorker = 2;
// An item is left to one block while its workers have no more key tiles each: to sum the results of
// several blocks takes longer.
constexpr int kMaxTilesAlone = 2;
// Items of at most this part of a share are left whole.
constexpr int kWholeItemsPerShare = 3;
// A block's partial results are weighed in the shared memory of one warp.
constexpr int kMaxDecodeBlocks = 160;

// Warps of a decode block, which has a multiprocessor to itself.
constexpr int DecodeWarps(int head_dim) { return head_dim > 128 ? 4 : 8; }

struct AttentionTotals {
  int32_t prefill_tiles;
};

// A worker's share, with what its first item needs, so that one load starts it.
struct alignas(16) DecodeWorker {
  int32_t seq;
  int32_t unit;
  int32_t tile;  // of the item, from its first key tile
  int32_t num_tiles;
  int32_t first_token;
  int32_t context;
  int32_t query_len;
  int32_t first_worker;  // that has a part of its first item
  int32_t last_worker;   // likewise
  int32_t reserved[3];
};

struct alignas(16) PrefillTile {
  int32_t seq;
  int32_t row;        // first packed row
  int32_t key_tiles;  // its cost
  int32_t reserved;
};

struct AttentionPlan {
  AttentionTotals* totals;
  int32_t* tile_offsets;        // [max_seqs + 1] decode key tiles before a sequence's first
  DecodeWorker* workers;        // [max_workers]
  int32_t* arrivals;            // [max_seqs * units] blocks done with an item; zero at rest
  PrefillTile* unsorted_tiles;  // [max_prefill_tiles]
  PrefillTile* prefill_tiles;   // [max_prefill_tiles]
  float* partials;              // [2 max_workers + 2 max_blocks][kDecodeRows][head_dim]
  float* partial_sums;          // [as partials][kDecodeRows][2] maximum, sum
  int group;                    // query heads a KV head
  int row_groups;               // of kDecodeRows rows at most, a KV head
  int units;                    // decode items a sequence
  int max_blocks;               // of the decode kernel
  int max_workers;
  int max_prefill_tiles;
  bool prefill_only;  // nobody decodes
  int64_t bytes;
};

// Lays the tables out from params.workspace on (which may be null, for `bytes`).
AttentionPlan LayOutPlan(const PagedAttentionParams& params, const LaunchContext& context);

}  // namespace trireme::cuda
