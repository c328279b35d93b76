// SPDX-License-Identifier: Apache-2.0
// The unit of work of paged attention on the CPU, and its partial results. Plain data.
#pragma once

#include <cstdint>

#include "kernels/paged_attention.h"

namespace trireme::kernels {

constexpr int kAttentionTileRows = 48;  // enough to read keys from memory once for many rows
constexpr int kAttentionSpan = 2048;    // keys that one record sums up; a multiple of 64

// Rows [first_row, first_row + num_rows) of one (sequence, kv head); row i is query i / group of
// head i % group, group = num_heads / num_kv_heads.
struct AttentionTile {
  int seq = 0;
  int kv_head = 0;
  int64_t first_row = 0;
  int num_rows = 0;
};

// Sums over one span of keys: per row the largest score m, l = sum exp(s - m), o = sum exp(s - m) v.
struct AttentionRecord {
  float* m;  // [kAttentionTileRows]
  float* l;  // [kAttentionTileRows]
  float* o;  // [kAttentionTileRows, head_dim]

  AttentionRecord(float* storage, int head_dim)
      : m(storage),
        l(storage + kAttentionTileRows),
        o(storage + 2 * kAttentionTileRows),
        head_dim_(head_dim) {}
  static constexpr int64_t Floats(int head_dim) {
    return int64_t{kAttentionTileRows} * (2 + head_dim);
  }
  void Clear(int num_rows) {
    for (int r = 0; r < num_rows; ++r) {
      m[r] = -__builtin_inff();
      l[r] = 0.0f;
    }
    for (int64_t i = 0; i < int64_t{num_rows} * head_dim_; ++i) o[i] = 0.0f;
  }

 private:
  int head_dim_;
};

}  // namespace trireme::kernels
