// SPDX-License-Identifier: Apache-2.0
// Attention of few rows a sequence: one block a worker of the plan. Its four warps take 16 of each
// tile's 64 keys each, with copies, softmax and accumulators of their own, and meet once an item.
// Keys and values pass through shared memory once, several tiles ahead of their use; the kernel is
// bound by their bandwidth.
#pragma once

#include "kernels/cuda/paged_attention_tile.cuh"

namespace trireme::cuda {

template <typename M, typename Cache, int kDim>
struct DecodeConfig {
  using Tile = AttentionTile<M, Cache, kDim>;
  static constexpr int kWarps = kKeyTile / kChunkKeys;
  static constexpr int kThreads = kWarps * 32;
  static constexpr int kBlocksPerSm = kDim > 128 ? 1 : 2;
  static constexpr int kChunkBytes = kChunkKeys * Tile::kKeyRowBytes;
  static constexpr int kStageBytes = kWarps * 2 * kChunkBytes;
  static constexpr int kQueryBytes = kDecodeRows * Tile::kQueryRowBytes;
  static constexpr int kNewRowBytes = kDim * static_cast<int>(sizeof(Cache));
  static constexpr int kSumBytes = kWarps * kDecodeRows * 2 * 4;
  static constexpr int kFixedBytes = kQueryBytes + 2 * kNewRowBytes + kSumBytes + 16;
  static constexpr int kBudget = 228 * 1024 / kBlocksPerSm - 1024;
  static constexpr int kFitting = (kBudget - kFixedBytes) / kStageBytes;
  static constexpr int kStages = kFitting < 8 ? kFitting : 8;
  static constexpr int kSharedBytes = kStages * kStageBytes + kFixedBytes;
  // Tiles whose chunks a warp takes together, so that one's latency hides the other's.
  static constexpr int kTogether = kStages >= 5 ? 2 : 1;
  static constexpr int kSumStride = kDim + 4;  // floats a row of a warp's sums
  static_assert(kStages >= 3, "fewer stages do not cover the memory's latency");
  static_assert(kWarps * kDecodeRows * kSumStride * 4 <= kStages * kStageBytes,
                "the warps' sums take the stages' place");
};

// A run of one item's key tiles.
struct DecodePiece {
  SequenceRows s;
  int seq;
  int kv_head;
  int row0;
  int first_tile;  // absolute
  int num_tiles;
  bool whole;  // the item is this piece alone
  bool last;   // holds the item's last tile
  int item;
  int first_worker;  // that has a part of the item
  int parts;
};

template <typename M, typename Cache, int kDim>
struct DecodeBlock {
  using Config = DecodeConfig<M, Cache, kDim>;
  using Tile = typename Config::Tile;

  const AttentionArgs& a;
  unsigned char* stages;
  unsigned char* queries;
  Cache* new_key;
  Cache* new_value;
  float* sums;  // [kWarps][kDecodeRows][2] maximum, sum
  int* flag;
  int warp;
  int lane;

  __device__ explicit DecodeBlock(const AttentionArgs& args) : a(args) {
    stages = DynamicShared();
    queries = stages + Config::kStages * Config::kStageBytes;
    new_key = reinterpret_cast<Cache*>(queries + Config::kQueryBytes);
    new_value = new_key + kDim;
    sums = reinterpret_cast<float*>(new_value + kDim);
    flag = reinterpret_cast<int*>(sums + Config::kWarps * kDecodeRows * 2);
    warp = static_cast<int>(threadIdx.x) / 32;
    lane = static_cast<int>(threadIdx.x) % 32;
  }

  __device__ unsigned char* Keys(int stage) const {
    return stages + stage * Config::kStageBytes + warp * 2 * Config::kChunkBytes;
  }

  __device__ int FirstKey(const DecodePiece& piece, int tile) const {
    return (piece.first_tile + tile) * kKeyTile + warp * kChunkKeys;
  }

  // The block that holds this warp's keys of `tile`; 0 where it needs none.
  __device__ int BlockOf(const DecodePiece& piece, int tile) const {
    const int key0 = FirstKey(piece, tile);
    const bool needed = tile < piece.num_tiles && key0 < piece.s.length() &&
                        key0 + kChunkKeys > piece.s.first_key(piece.row0);
    if (!needed) return 0;
    return a.p.step
        .block_tables[int64_t{piece.seq} * a.p.step.block_table_stride + key0 / a.p.kv.block_size];
  }

  // Starts the copy of `tile`, if there is one, and closes a group either way.
  __device__ void Copy(const DecodePiece& piece, int tile, int block, int stage) const {
    if (tile < piece.num_tiles) {
      const uint32_t keys = SharedAddress(Keys(stage));
      CopyKeys<Tile, Cache, kChunkKeys>(
          a, piece.kv_head, block, FirstKey(piece, tile), piece.s.first_key(piece.row0),
          a.fused ? piece.s.context : piece.s.length(), lane, 32, keys, keys + Config::kChunkBytes);
    }
    CopyAsyncCommit();
  }

  // The new token's key and value: rotated into shared memory, and by the item's first rows into
  // the cache.
  __device__ void StageNewToken(const DecodePiece& piece) const {
    const KvView& kv = a.p.kv;
    const int64_t token = piece.s.first_token;
    const int64_t key_offset =
        token * a.rope.qkv_stride + int64_t{a.p.num_heads + piece.kv_head} * kv.head_dim;
    const int64_t value_offset = key_offset + int64_t{kv.num_kv_heads} * kv.head_dim;
    const int place = piece.s.context;
    const int block =
        a.p.step
            .block_tables[int64_t{piece.seq} * a.p.step.block_table_stride + place / kv.block_size];
    const int64_t in_block = int64_t{place & (kv.block_size - 1)} * kv.head_dim;
    Cache* key_row = HeadOfBlock<Cache>(kv, block, a.p.layer, false, piece.kv_head) + in_block;
    Cache* value_row = HeadOfBlock<Cache>(kv, block, a.p.layer, true, piece.kv_head) + in_block;
    const float inverse_key_scale = 1.0f / kv.k_scale;
    const float inverse_value_scale = 1.0f / kv.v_scale;
    for (int i = static_cast<int>(threadIdx.x); i < kDim / 2; i += Config::kThreads) {
      if (2 * i >= kv.head_dim) {
        new_key[2 * i] = new_key[2 * i + 1] = ToCache<Cache>(0.0f, 1.0f);
        new_value[2 * i] = new_value[2 * i + 1] = ToCache<Cache>(0.0f, 1.0f);
        continue;
      }
      const RotaryPair pair = PairOf(a.rope.style, a.rope.rotary_dim, i);
      float x = LoadElement(a.rope.qkv, a.p.dtype, key_offset + pair.first);
      float y = LoadElement(a.rope.qkv, a.p.dtype, key_offset + pair.second);
      if (pair.rotated) {
        const int64_t table = int64_t{a.p.step.positions[token]} * (a.rope.rotary_dim / 2) + i;
        Rotate(x, y, a.rope.cos[table], a.rope.sin[table]);
        x = RoundTo(a.p.dtype, x);
        y = RoundTo(a.p.dtype, y);
      }
      new_key[pair.first] = ToCache<Cache>(x, inverse_key_scale);
      new_key[pair.second] = ToCache<Cache>(y, inverse_key_scale);
      for (int e = 2 * i; e < 2 * i + 2; ++e) {
        new_value[e] = ToCache<Cache>(LoadElement(a.rope.qkv, a.p.dtype, value_offset + e),
                                      inverse_value_scale);
      }
      if (piece.row0 != 0) continue;
      key_row[pair.first] = new_key[pair.first];
      key_row[pair.second] = new_key[pair.second];
      value_row[2 * i] = new_value[2 * i];
      value_row[2 * i + 1] = new_value[2 * i + 1];
    }
  }

  // Puts the new token's row into the stage of the chunk that it belongs to.
  __device__ void InsertNewToken(const DecodePiece& piece, int tile, int stage) const {
    const int row = piece.s.context - FirstKey(piece, tile);
    if (row < 0 || row >= kChunkKeys) return;
    unsigned char* keys = Keys(stage) + row * Tile::kKeyRowBytes;
    unsigned char* values = keys + Config::kChunkBytes;
    for (int i = lane; i < Tile::kPieces; i += 32) {
      reinterpret_cast<uint4*>(keys)[i] = reinterpret_cast<const uint4*>(new_key)[i];
      reinterpret_cast<uint4*>(values)[i] = reinterpret_cast<const uint4*>(new_value)[i];
    }
    __syncwarp();
  }

  __device__ void Attend(const DecodePiece& piece, RowSums<kDim>& rows) const {
    constexpr int kTogether = Config::kTogether;
    constexpr int kAhead = Config::kStages - kTogether;
    int blocks[kAhead];
#pragma unroll
    for (int tile = 0; tile < kAhead; ++tile) blocks[tile] = BlockOf(piece, tile);
#pragma unroll
    for (int tile = 0; tile < kAhead; ++tile) Copy(piece, tile, blocks[tile], tile);
    int next_blocks[kTogether];
#pragma unroll
    for (int i = 0; i < kTogether; ++i) next_blocks[i] = BlockOf(piece, kAhead + i);
    StageQueries<M, kDim, kDecodeRows, Config::kThreads>(a, piece.s, piece.kv_head, piece.row0,
                                                         queries);
    if (a.fused && piece.last) StageNewToken(piece);
    const RowRule rule = RuleOf(a, piece.s, piece.kv_head, piece.row0, lane);
    __syncthreads();
    uint32_t q[Tile::kQueryInRegisters ? Tile::kSteps : 1][4];
    if constexpr (Tile::kQueryInRegisters) {
#pragma unroll
      for (int step = 0; step < Tile::kSteps; ++step) Tile::LoadQuery(queries, step, lane, q[step]);
    }
    int stage = 0;
    for (int tile = 0; tile < piece.num_tiles; tile += kTogether) {
      CopyAsyncWait<kAhead - kTogether>();
      __syncwarp();
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        const int block = next_blocks[i];
        next_blocks[i] = BlockOf(piece, tile + kAhead + kTogether + i);
        Copy(piece, tile + kAhead + i, block, Wrap(stage + kAhead + i));
      }
      if (kTogether == 2 && tile + 1 < piece.num_tiles) {
        AddChunks<kTogether>(piece, rule, tile, stage, q, rows);
      } else {
        AddChunks<1>(piece, rule, tile, stage, q, rows);
      }
      stage = Wrap(stage + kTogether);
    }
    CopyAsyncWait<0>();
  }

  __device__ static int Wrap(int stage) {
    return stage >= Config::kStages ? stage - Config::kStages : stage;
  }

  // This warp's chunks of tiles [tile, tile + kCount), in the stages from `stage` on.
  template <int kCount, int kHeldSteps>
  __device__ void AddChunks(const DecodePiece& piece, const RowRule& rule, int tile, int stage,
                            const uint32_t (&q)[kHeldSteps][4], RowSums<kDim>& rows) const {
    if (FirstKey(piece, tile) >= piece.s.length()) return;
    uint32_t keys[kCount];
#pragma unroll
    for (int c = 0; c < kCount; ++c) {
      if (a.fused && piece.last) InsertNewToken(piece, tile + c, Wrap(stage + c));
      keys[c] = SharedAddress(Keys(Wrap(stage + c)));
    }
    float s[2 * kCount][4] = {};
#pragma unroll
    for (int batch = 0; batch < Tile::kSteps; batch += Tile::kBatch) {
      uint32_t r[kCount][Tile::kBatch][Tile::kHeld];
#pragma unroll
      for (int c = 0; c < kCount; ++c) {
#pragma unroll
        for (int i = 0; i < Tile::kBatch; ++i) Tile::LoadKeys(keys[c], batch + i, lane, r[c][i]);
      }
#pragma unroll
      for (int i = 0; i < Tile::kBatch; ++i) {
        uint32_t query[4];
        if constexpr (!Tile::kQueryInRegisters) Tile::LoadQuery(queries, batch + i, lane, query);
#pragma unroll
        for (int c = 0; c < kCount; ++c) {
          if constexpr (Tile::kQueryInRegisters) {
            Tile::Score(r[c][i], q[batch + i], s[2 * c], s[2 * c + 1]);
          } else {
            Tile::Score(r[c][i], query, s[2 * c], s[2 * c + 1]);
          }
        }
      }
    }
#pragma unroll
    for (int n = 0; n < 2 * kCount; ++n) {
      const int key0 = FirstKey(piece, tile + n / 2) + n % 2 * 8 + lane % 4 * 2;
#pragma unroll
      for (int i = 0; i < 4; ++i) s[n][i] = rule.Exponent(s[n][i], i / 2, key0 + i % 2);
    }
    rows.Add(s);
#pragma unroll
    for (int c = 0; c < kCount; ++c) {
      uint32_t probabilities[4];
      PackProbabilities<M>(s, c, probabilities);
      Tile::AddValues(keys[c] + Config::kChunkBytes, lane, probabilities, rows.o);
    }
  }

  // The warps' sums, side by side in the stages' place.
  __device__ void ShareSums(const DecodePiece& piece, const RowSums<kDim>& rows) const {
    float* mine = reinterpret_cast<float*>(stages) + warp * kDecodeRows * Config::kSumStride;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int row = lane / 4 + 8 * r;
      const float total = rows.TotalSum(r);
      if (lane % 4 == 0) {
        sums[(warp * kDecodeRows + row) * 2] = rows.max[r];
        sums[(warp * kDecodeRows + row) * 2 + 1] = total;
      }
      if (piece.row0 + row >= piece.s.rows) continue;
#pragma unroll
      for (int n = 0; n < kDim / 8; ++n) {
        for (int e = 0; e < 2; ++e) {
          mine[row * Config::kSumStride + Tile::DimOf(n, e, lane)] = rows.o[n][2 * r + e];
        }
      }
    }
  }

  __device__ void StoreOut(const DecodePiece& piece, int row, int dim, float sum, float x) const {
    const int packed = piece.row0 + row;
    const int64_t token = piece.s.first_token + packed / piece.s.group;
    const int head = piece.kv_head * piece.s.group + packed % piece.s.group;
    StoreElement(a.p.out, a.p.dtype, token * a.p.out_stride + int64_t{head} * a.p.kv.head_dim + dim,
                 x * a.p.kv.v_scale / sum);
  }

  // Adds the warps' sums and stores them: as the result, or in `slot` of the partial results.
  __device__ void Finish(const DecodePiece& piece, int slot) const {
    const int rows = min(kDecodeRows, piece.s.rows - piece.row0);
    const int head_dim = a.p.kv.head_dim;
    for (int i = static_cast<int>(threadIdx.x); i < rows * head_dim; i += Config::kThreads) {
      const int row = i / head_dim;
      const int dim = i % head_dim;
      float top = -INFINITY;
      for (int w = 0; w < Config::kWarps; ++w) {
        top = fmaxf(top, sums[(w * kDecodeRows + row) * 2]);
      }
      const float base = top == -INFINITY ? 0.0f : top;
      float sum = 0.0f;
      float x = 0.0f;
      for (int w = 0; w < Config::kWarps; ++w) {
        const float* row_sums = sums + (w * kDecodeRows + row) * 2;
        const float weight = Exp2(row_sums[0] - base);
        sum += weight * row_sums[1];
        x += weight * reinterpret_cast<const float*>(
                          stages)[(w * kDecodeRows + row) * Config::kSumStride + dim];
      }
      if (piece.whole) {
        StoreOut(piece, row, dim, sum, x);
      } else {
        const int64_t partial = int64_t{slot} * kDecodeRows + row;
        __stcg(a.plan.partials + partial * head_dim + dim, x);
        if (dim == 0) {
          __stcg(a.plan.partial_sums + partial * 2, top);
          __stcg(a.plan.partial_sums + partial * 2 + 1, sum);
        }
      }
    }
  }

  __device__ static int64_t PartialRow(const DecodePiece& piece, int part, int row) {
    const int64_t slot = 2 * (piece.first_worker + part) + (part == 0 ? 1 : 0);
    return slot * kDecodeRows + row;
  }

  // What each part of each row counts for, in the stages' place: [part][row], divided by the sum.
  __device__ void WeighParts(const DecodePiece& piece, int rows, float* weights) const {
    for (int row = warp; row < rows; row += Config::kWarps) {
      float top = -INFINITY;
      for (int part = lane; part < piece.parts; part += 32) {
        top = fmaxf(top, __ldcg(a.plan.partial_sums + PartialRow(piece, part, row) * 2));
      }
      for (int delta = 16; delta > 0; delta /= 2) {
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, delta));
      }
      float sum = 0.0f;
      for (int part = lane; part < piece.parts; part += 32) {
        const float2 part_sums = __ldcg(reinterpret_cast<const float2*>(
            a.plan.partial_sums + PartialRow(piece, part, row) * 2));
        const float weight = Exp2(part_sums.x - top);
        weights[part * kDecodeRows + row] = weight;
        sum += weight * part_sums.y;
      }
      for (int delta = 16; delta > 0; delta /= 2) {
        sum += __shfl_xor_sync(0xffffffffu, sum, delta);
      }
      if (lane == 0) sums[row] = sum;
    }
    __syncthreads();
  }

  // Adds the item's partial results, in the order of its workers. Many loads are under way at once.
  __device__ void Combine(const DecodePiece& piece) const {
    constexpr int kLoads = 16;
    const int rows = min(kDecodeRows, piece.s.rows - piece.row0);
    const int head_dim = a.p.kv.head_dim;
    float* weights = reinterpret_cast<float*>(stages);
    WeighParts(piece, rows, weights);
    for (int i = static_cast<int>(threadIdx.x); i < rows * head_dim / 4; i += Config::kThreads) {
      const int row = i / (head_dim / 4);
      const int dim = i % (head_dim / 4) * 4;
      float x[4] = {};
      for (int first = 0; first < piece.parts; first += kLoads) {
        float4 loaded[kLoads];
#pragma unroll
        for (int j = 0; j < kLoads; ++j) {
          const int part = min(first + j, piece.parts - 1);
          loaded[j] = __ldcg(reinterpret_cast<const float4*>(
              a.plan.partials + PartialRow(piece, part, row) * head_dim + dim));
        }
#pragma unroll
        for (int j = 0; j < kLoads; ++j) {
          if (first + j >= piece.parts) continue;
          const float weight = weights[(first + j) * kDecodeRows + row];
          x[0] += loaded[j].x * weight;
          x[1] += loaded[j].y * weight;
          x[2] += loaded[j].z * weight;
          x[3] += loaded[j].w * weight;
        }
      }
      for (int e = 0; e < 4; ++e) StoreOut(piece, row, dim + e, sums[row], x[e]);
    }
  }

  // Counts this piece as done; whoever comes last adds the item up.
  __device__ void Arrive(const DecodePiece& piece) const {
    __syncthreads();
    if (threadIdx.x == 0) {
      __threadfence();
      const bool last = atomicAdd(a.plan.arrivals + piece.item, 1) == piece.parts - 1;
      if (last) a.plan.arrivals[piece.item] = 0;
      __threadfence();
      *flag = last ? 1 : 0;
    }
    __syncthreads();
    if (*flag != 0) Combine(piece);
  }
};

// The part of `work`'s first item that is the worker's.
__device__ inline DecodePiece PieceOf(const AttentionArgs& a, const DecodeWorker& work) {
  const int row_groups = a.plan.units / a.p.kv.num_kv_heads;
  DecodePiece piece;
  piece.s = {work.first_token, work.context, work.query_len,
             a.plan.group,     a.p.window,   work.query_len * a.plan.group};
  const int item_tiles = piece.s.num_key_tiles(0, piece.s.rows - 1);
  piece.seq = work.seq;
  piece.kv_head = work.unit / row_groups;
  piece.row0 = work.unit % row_groups * kDecodeRows;
  piece.first_tile = piece.s.first_key_tile(0) + work.tile;
  piece.num_tiles = min(work.num_tiles, item_tiles - work.tile);
  piece.whole = piece.num_tiles == item_tiles;
  piece.last = work.tile + piece.num_tiles == item_tiles;
  piece.item = work.seq * a.plan.units + work.unit;
  const int begin = work.first_tile + work.unit * item_tiles;
  piece.first_worker = WorkerOfTile(begin, work.workers, work.total_tiles);
  piece.parts =
      WorkerOfTile(begin + item_tiles - 1, work.workers, work.total_tiles) - piece.first_worker + 1;
  return piece;
}

// Moves `work` past `piece`, to the next item that has tiles.
__device__ inline void Advance(const AttentionArgs& a, const DecodePiece& piece,
                               DecodeWorker& work) {
  work.num_tiles -= piece.num_tiles;
  work.tile = 0;
  if (work.num_tiles == 0 || ++work.unit < a.plan.units) return;
  work.unit = 0;
  do {
    ++work.seq;
  } while (a.plan.tile_offsets[work.seq] == a.plan.tile_offsets[work.seq + 1]);
  const SequenceRows s =
      RowsOf(a.p.step.cu_query_lens, a.p.step.context_lens, work.seq, a.plan.group, a.p.window);
  work.first_token = s.first_token;
  work.context = s.context;
  work.query_len = s.query_len;
  work.first_tile = a.plan.tile_offsets[work.seq];
}

template <typename M, typename Cache, int kDim>
__global__ void __launch_bounds__(DecodeConfig<M, Cache, kDim>::kThreads,
                                  DecodeConfig<M, Cache, kDim>::kBlocksPerSm)
    DecodeAttentionKernel(const __grid_constant__ AttentionArgs a) {
  cudaGridDependencySynchronize();
  cudaTriggerProgrammaticLaunchCompletion();
  const int worker = static_cast<int>(blockIdx.x);
  DecodeWorker work = a.plan.workers[worker];
  if (work.num_tiles == 0) return;
  DecodeBlock<M, Cache, kDim> block(a);
  while (work.num_tiles > 0) {
    const DecodePiece piece = PieceOf(a, work);
    RowSums<kDim> rows;
    block.Attend(piece, rows);
    __syncthreads();
    block.ShareSums(piece, rows);
    __syncthreads();
    block.Finish(piece, 2 * worker + (work.tile == 0 ? 1 : 0));
    if (!piece.whole) block.Arrive(piece);
    __syncthreads();
    Advance(a, piece, work);
  }
}

}  // namespace trireme::cuda
