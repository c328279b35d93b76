// SPDX-License-Identifier: Apache-2.0
// Attention of many rows a sequence, for every head_dim and cache type: one block takes a tile of
// 128 packed rows of a KV head, eight warps of 16 rows, over key tiles that the warps share.
#pragma once

#include "kernels/cuda/paged_attention_tile.cuh"

namespace trireme::cuda {

template <typename M, typename Cache, int kDim>
struct PrefillConfig {
  using Tile = AttentionTile<M, Cache, kDim>;
  static constexpr int kWarps = kPrefillRows / 16;
  static constexpr int kThreads = kWarps * 32;
  static constexpr int kTileBytes = kKeyTile * Tile::kKeyRowBytes;  // of keys, or of values
  static constexpr int kQueryBytes = kPrefillRows * Tile::kQueryRowBytes;
  static constexpr int kStages = kDim > 128 && sizeof(Cache) == 2 ? 2 : 3;
  static constexpr int kSharedBytes = kQueryBytes + kStages * 2 * kTileBytes;
};

template <typename M, typename Cache, int kDim>
struct PrefillBlock {
  using Config = PrefillConfig<M, Cache, kDim>;
  using Tile = typename Config::Tile;

  const AttentionArgs& a;
  SequenceRows s;
  int seq;
  int kv_head;
  int row0;
  int first_tile;
  int num_tiles;
  int warp;
  int lane;

  __device__ PrefillBlock(const AttentionArgs& args, const PrefillTile& tile, int head)
      : a(args), seq(tile.seq), kv_head(head), row0(tile.row) {
    s = RowsOf(a.p.step.cu_query_lens, a.p.step.context_lens, seq, a.plan.group, a.p.window);
    const int last = min(row0 + kPrefillRows, s.rows) - 1;
    first_tile = s.first_key(row0) / kKeyTile;
    num_tiles = s.num_tiles(row0, last, kKeyTile);
    warp = static_cast<int>(threadIdx.x) / 32;
    lane = static_cast<int>(threadIdx.x) % 32;
  }

  __device__ unsigned char* Keys(int stage) const {
    return DynamicShared() + Config::kQueryBytes + stage * 2 * Config::kTileBytes;
  }

  // Starts the copy of `tile`, if there is one, and closes a group either way. Two warps a chunk.
  __device__ void Copy(int tile, int stage) const {
    if (tile < num_tiles) {
      const int chunk = warp / 2;
      const int key0 = (first_tile + tile) * kKeyTile + chunk * kChunkKeys;
      const int first = s.first_key(row0);
      int block = 0;
      if (key0 < s.length() && key0 + kChunkKeys > first) {
        block = a.p.step.block_tables[int64_t{seq} * a.p.step.block_table_stride +
                                      key0 / a.p.kv.block_size];
      }
      const uint32_t keys = SharedAddress(Keys(stage)) + chunk * kChunkKeys * Tile::kKeyRowBytes;
      CopyKeys<Tile, Cache, kChunkKeys>(a, kv_head, block, key0, first, s.length(),
                                        static_cast<int>(threadIdx.x) % 64, 64, keys,
                                        keys + Config::kTileBytes);
    }
    CopyAsyncCommit();
  }

  __device__ void AddTile(const RowRule& rule, int key0, int stage, RowSums<kDim>& rows) const {
    constexpr int kChunks = kKeyTile / kChunkKeys;
    const unsigned char* queries = DynamicShared() + warp * 16 * Tile::kQueryRowBytes;
    const uint32_t keys = SharedAddress(Keys(stage));
    float scores[kKeyTile / 8][4] = {};
#pragma unroll
    for (int step = 0; step < Tile::kSteps; ++step) {
      uint32_t query[4];
      Tile::LoadQuery(queries, step, lane, query);
      uint32_t r[kChunks][Tile::kHeld];
#pragma unroll
      for (int chunk = 0; chunk < kChunks; ++chunk) {
        Tile::LoadKeys(keys + chunk * kChunkKeys * Tile::kKeyRowBytes, step, lane, r[chunk]);
      }
#pragma unroll
      for (int chunk = 0; chunk < kChunks; ++chunk) {
        Tile::Score(r[chunk], query, scores[2 * chunk], scores[2 * chunk + 1]);
      }
    }
#pragma unroll
    for (int n = 0; n < kKeyTile / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        scores[n][i] = rule.Exponent(scores[n][i], i / 2, key0 + n * 8 + lane % 4 * 2 + i % 2);
      }
    }
    rows.Add(scores);
#pragma unroll
    for (int chunk = 0; chunk < kChunks; ++chunk) {
      uint32_t probabilities[4];
      PackProbabilities<M>(scores, chunk, probabilities);
      Tile::AddValues(keys + Config::kTileBytes + chunk * kChunkKeys * Tile::kKeyRowBytes, lane,
                      probabilities, rows.o);
    }
  }

  __device__ void StoreRows(const RowSums<kDim>& rows) const {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float total = rows.TotalSum(r);
      const int row = row0 + warp * 16 + lane / 4 + 8 * r;
      if (row >= s.rows) continue;
      const float factor = a.p.kv.v_scale / total;
      const int64_t token = s.first_token + row / s.group;
      const int64_t offset =
          token * a.p.out_stride + int64_t{kv_head * s.group + row % s.group} * a.p.kv.head_dim;
#pragma unroll
      for (int n = 0; n < kDim / 8; ++n) {
        for (int e = 0; e < 2; ++e) {
          const int dim = Tile::DimOf(n, e, lane);
          if (dim >= a.p.kv.head_dim) continue;
          StoreElement(a.p.out, a.p.dtype, offset + dim, rows.o[n][2 * r + e] * factor);
        }
      }
    }
  }

  __device__ void Run() const {
    constexpr int kAhead = Config::kStages - 1;
    for (int tile = 0; tile < kAhead; ++tile) Copy(tile, tile);
    StageQueries<M, kDim, kPrefillRows, Config::kThreads>(a, s, kv_head, row0, DynamicShared());
    const int warp_row = row0 + warp * 16;
    const RowRule rule = RuleOf(a, s, kv_head, warp_row + lane / 4, warp_row + lane / 4 + 8);
    const int last_row = min(warp_row + 16, s.rows) - 1;
    const int last_place = warp_row < s.rows ? s.place(last_row) : -1;
    const int first_key = s.first_key(min(warp_row, s.rows - 1));
    RowSums<kDim> rows;
    int stage = 0;
    for (int tile = 0; tile < num_tiles; ++tile) {
      CopyAsyncWait<kAhead - 1>();
      __syncthreads();
      Copy(tile + kAhead, stage == 0 ? kAhead : stage - 1);
      const int key0 = (first_tile + tile) * kKeyTile;
      if (key0 <= last_place && key0 + kKeyTile > first_key) AddTile(rule, key0, stage, rows);
      stage = stage == kAhead ? 0 : stage + 1;
    }
    CopyAsyncWait<0>();
    StoreRows(rows);
  }
};

// blockIdx.x: KV head; blockIdx.y: tile of the plan.
template <typename M, typename Cache, int kDim>
__global__ void __launch_bounds__(PrefillConfig<M, Cache, kDim>::kThreads, 1)
    PrefillAttentionKernel(const __grid_constant__ AttentionArgs a) {
  cudaGridDependencySynchronize();
  cudaTriggerProgrammaticLaunchCompletion();
  const int tile = static_cast<int>(blockIdx.y);
  if (tile >= a.plan.totals->prefill_tiles) return;
  PrefillBlock<M, Cache, kDim>(a, a.plan.prefill_tiles[tile], static_cast<int>(blockIdx.x)).Run();
}

}  // namespace trireme::cuda
