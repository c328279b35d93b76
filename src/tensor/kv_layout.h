// SPDX-License-Identifier: Apache-2.0
// Where a key or value lies in a pool of KV blocks: one pure function. Plain data.
//
//   pool  = [num_blocks][block_bytes]
//   block = [layer][K | V][kv_head][token in block][head_dim]      (all layers contiguous, so that
//                                                                   copy and offload are one span)
#pragma once

#include <cstdint>

#include "tensor/dtype.h"

namespace trireme {

struct KvLayout {
  DType dtype = DType::kFloat32;  // float32, float16 or bfloat16
  int num_layers = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
  int block_size = 64;  // tokens per KV block, a power of two

  // Bytes of [block_size, head_dim] of one head.
  int64_t head_bytes() const { return DTypeBytes(dtype, int64_t{block_size} * head_dim); }
  int64_t block_bytes() const { return int64_t{num_layers} * 2 * num_kv_heads * head_bytes(); }

  // Offset in bytes, from the pool's start, of the [block_size, head_dim] keys (or values) that
  // block `block` holds for (layer, kv_head).
  int64_t Offset(int64_t block, int layer, bool value, int kv_head) const {
    return block * block_bytes() +
           ((int64_t{layer} * 2 + (value ? 1 : 0)) * num_kv_heads + kv_head) * head_bytes();
  }

  friend bool operator==(const KvLayout&, const KvLayout&) = default;
};

}  // namespace trireme
