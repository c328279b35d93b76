// SPDX-License-Identifier: Apache-2.0
// How the blocks of a DecodeRegion share the work and lay out shared memory. C++17; pure functions.
#pragma once

#include "kernels/cuda/decode_region.h"

namespace trireme::cuda {

constexpr int kRegionWarps = 7;  // that compute; with the one that streams, 255 registers a thread
constexpr int kRegionProducts = 4;
constexpr int kRegionStages = kRegionProducts + 1;  // of a layer, a grid-wide wait between two
constexpr int kRegionHeads = 4;                     // query heads of one attention item

constexpr int kRegionHeldBlocks = 64;  // of the cache, whose ids an item has at hand

// A token, a kv head, up to kRegionHeads of its query heads and a split of the keys.
struct RegionItem {
  int token;
  int group;  // of items that are joined: those of a token and its heads
  int kv_head;
  int first_head;  // of q
  int heads;
  int seq;
  int place;  // of the new token in its sequence
  int split;
  int splits;
  int first_key;
  int end_key;  // the new token's among them in the last split
};

// Rows of a weight are taken in pairs: neighbours, or the two branches of a gated layer. A chunk is
// what one warp multiplies at a time: the same part of both rows of a pair.
struct RegionProduct {
  bool gated = false;
  int in_features = 0;
  int out_features = 0;  // of y
  int row_bytes = 0;
  int parts = 0;  // of a row
  int part_bytes = 0;
  int64_t pair_bytes = 0;    // from one pair to the next
  int64_t second_bytes = 0;  // from a pair's first row to its second
  int block_pairs = 0;       // of each block,
  int longer_blocks = 0;     // and one more of so many,
  int first_longer = 0;      // from this block on, in the first layer
};

// Shared memory, in this order:
//   ring      slots x slot_bytes
//   x         num_rows rows of x_row_bytes, or an attention item's queries, new key and value, sums
//   partial   sums of chunks [pair][part][row of x][row of the pair], float32
//   squares   kRegionWarps x num_rows float32
//   item      a RegionItem, kRegionHeldBlocks ints, head_dim floats
//   barriers  slots x {full, empty}, 8 bytes each
struct DecodeRegionPlan {
  RegionProduct products[kRegionProducts];  // qkv, o, gate_up, down
  int num_blocks = 0;
  int layer_shift = 0;  // blocks by which the longer shares move on with each layer
  int slots = 0;
  int slot_bytes = 0;
  int chunks_in_flight = 0;
  int x_offset = 0;
  int x_row_bytes = 0;
  int partial_offset = 0;
  int squares_offset = 0;
  int item_offset = 0;
  int barriers_offset = 0;
  int shared_bytes = 0;
  int head_blocks = 0;  // attention items of a kv head for one split
  int max_splits = 0;   // of a sequence
  int partial_floats = 0;
  int64_t partials_offset = 0;
  int64_t workspace_bytes = 0;
};

// The workspace: [arrivals of the grid, 256 bytes][blocks done, of each item group][partials]; a
// partial is [kRegionHeads][head_dim] sums, then maxima and sums of probabilities.
constexpr int64_t kRegionDoneOffset = 256;

// False when the problem does not fit.
bool MakeDecodeRegionPlan(const DecodeRegionParams& params, const DecodeRegionConfig& config,
                          int num_sms, DecodeRegionPlan* plan);

}  // namespace trireme::cuda
