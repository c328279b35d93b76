// SPDX-License-Identifier: Apache-2.0
// Where a key or value lies in a pool of KV blocks: one pure function. Plain data.
//
//   pool   = [num_blocks][block_bytes]
//   block  = [layer][K | V][kv_head][head_bytes]   (all layers contiguous, so that copy and offload
//                                                   are one span)
//   keys   of a head = [token / 16][head_dim][token % 16]   one dimension of 16 keys is one vector,
//                                                           so scores need no transpose
//                  or  [token][head_dim]                    (keys_in_token_order) for matrix units
//   values of a head = [token][head_dim]                    a weighted sum runs along rows
#pragma once

#include <cstdint>

#include "tensor/dtype.h"

namespace trireme {

struct KvLayout {
  DType dtype = DType::kFloat32;  // float32, float16, bfloat16; fp8 on the GPU
  int num_layers = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
  int block_size = 64;  // tokens per KV block, a power of two
  bool keys_in_token_order = false;

  // Bytes of [block_size, head_dim] of one head.
  int64_t head_bytes() const { return DTypeBytes(dtype, int64_t{block_size} * head_dim); }
  int64_t block_bytes() const { return int64_t{num_layers} * 2 * num_kv_heads * head_bytes(); }

  // Offset in bytes, from the pool's start, of the [block_size, head_dim] keys (or values) that
  // block `block` holds for (layer, kv_head).
  int64_t Offset(int64_t block, int layer, bool value, int kv_head) const {
    return block * block_bytes() +
           ((int64_t{layer} * 2 + (value ? 1 : 0)) * num_kv_heads + kv_head) * head_bytes();
  }

  // Elements from there on, of dimension `dim` of token `token` (in the block).
  int64_t KeyIndex(int token, int dim) const {
    const int group = key_group();
    return (int64_t{token / group} * head_dim + dim) * group + token % group;
  }
  int64_t ValueIndex(int token, int dim) const { return int64_t{token} * head_dim + dim; }
  // Keys that lie side by side.
  int key_group() const { return keys_in_token_order ? 1 : block_size < 16 ? block_size : 16; }

  friend bool operator==(const KvLayout&, const KvLayout&) = default;
};

}  // namespace trireme
