// SPDX-License-Identifier: Apache-2.0
// Attention of few rows a sequence: one warp a worker of the plan, which meets the others of its
// block only to sum what they share at the end.
//
// A warp has a ring of stages of its own, some keys and their values each. Its copies run ahead of
// its arithmetic by all stages but one, from item to item, so that memory is busy while an item
// begins and ends; the kernel is bound by that. Keys lie along the long side of the matrix
// instructions and rows along the short one: S^T = K Q^T, O^T = V^T P^T.
//
//   shared memory   rings [warps][stages][K | V][keys][row]   queries [warps][rows][row]
//
// Pieces of 16 bytes lie in a row in an order that depends on the row, so that ldmatrix meets no
// bank twice.
#pragma once

#include "kernels/cuda/paged_attention_items.cuh"
#include "kernels/cuda/paged_attention_partials.cuh"

namespace trireme::cuda {

template <typename M, typename Cache, int kDim, int kRowTiles>
struct DecodeConfig {
  static constexpr int kWarps = DecodeWarps(kDim);
  static constexpr int kThreads = kWarps * 32;
  static constexpr int kRows = 8 * kRowTiles;
  static constexpr int kRowBytes = kDim * static_cast<int>(sizeof(Cache));
  static constexpr int kPieces = kRowBytes / 16;
  static constexpr int kStageKeys = kRowBytes <= 128 ? 32 : 16;
  static constexpr int kChunks = kStageKeys / kChunkKeys;
  static constexpr int kStagesPerTile = kDecodeTile / kStageKeys;
  static constexpr int kHalfBytes = kStageKeys * kRowBytes;  // of keys, or of values
  static constexpr int kStageBytes = 2 * kHalfBytes;
  static constexpr int kQueryRowBytes = OddPieces(kDim * 2);
  static constexpr int kQueryBytes = kRows * kQueryRowBytes;
  static constexpr int kFitting = (227 * 1024 / kWarps - kQueryBytes) / kStageBytes;
  static constexpr int kStages = kFitting < 6 ? kFitting : 6;
  static constexpr int kRingBytes = kStages * kStageBytes;
  static constexpr int kSharedBytes = kWarps * (kRingBytes + kQueryBytes);
  static constexpr bool kQueryInRegisters = kDim * kRowTiles <= 256;
  static_assert(kStages >= 3, "fewer stages do not cover the memory's latency");
  static_assert(PartialSums<kRows>::kSharedBytes <= kRingBytes, "weights take the ring's place");
};

template <typename M, typename Cache, int kDim, int kRowTiles>
struct DecodeWarp {
  using Config = DecodeConfig<M, Cache, kDim, kRowTiles>;
  static constexpr bool kFloat8 = sizeof(Cache) == 1;
  static constexpr int kChunks = Config::kChunks;
  static constexpr int kStages = Config::kStages;
  static constexpr int kRowBytes = Config::kRowBytes;
  static constexpr int kLoads = kRowBytes / 32;  // ldmatrix of a chunk's keys, or values
  static constexpr int kBatch = 4;               // of them under way together
  static constexpr int kSteps = kDim / 16;
  static constexpr int kLanePairs = kDim / 64;  // rotary pairs a lane has of a token
  // Else a sequence may have several queries.
  static constexpr bool kOneQuery = kRowTiles == 1;

  const AttentionArgs& a;
  int worker;
  int lane;
  int block_shift;  // block_size is a power of two
  unsigned char* ring;
  unsigned char* queries;
  uint32_t write_lane;           // this lane's first 16 bytes of a chunk, in the ring
  uint32_t key_lane;             // its address for ldmatrix, of keys
  uint32_t value_lane;           // and of values
  RotaryPair pairs[kLanePairs];  // of a head: pair lane + 32 i

  __device__ DecodeWarp(const AttentionArgs& args)
      : a(args),
        worker(static_cast<int>(blockIdx.x) * Config::kWarps + static_cast<int>(threadIdx.x) / 32),
        lane(static_cast<int>(threadIdx.x) % 32),
        block_shift(Log2Of(args.p.kv.block_size)) {
    const int warp = static_cast<int>(threadIdx.x) / 32;
    ring = DynamicShared() + warp * Config::kRingBytes;
    queries = DynamicShared() + Config::kWarps * Config::kRingBytes + warp * Config::kQueryBytes;
    const uint32_t base = SharedAddress(ring);
    write_lane = base + PlaceOf(lane / Config::kPieces, lane % Config::kPieces);
    key_lane = base + PlaceOf(lane % 16, lane / 16);
    const RotaryStyle style = a.fused ? a.rope.style : RotaryStyle::kNone;
#pragma unroll
    for (int i = 0; i < kLanePairs; ++i) pairs[i] = PairOf(style, a.rope.rotary_dim, lane + 32 * i);
    value_lane = kFloat8 ? key_lane : base + PlaceOf(lane % 8 + lane / 16 * 8, lane / 8 % 2);
  }

  // Where piece `piece` of row `row` lies. Piece 2 j + h lies at PlaceOf(row, h) ^ 32 j.
  __device__ static int PlaceOf(int row, int piece) {
    const int turn = Config::kPieces >= 8 ? row % 8 : row / 2 % 4;
    return row * kRowBytes + (piece ^ turn) * 16;
  }

  __device__ static int Wrap(int stage) { return stage >= kStages ? stage - kStages : stage; }

  // ---- Copies

  // Walks over the stages of the worker's share, ahead of the arithmetic.
  struct Source {
    DecodeWorker work;
    int tiles;   // of the piece
    int stages;  // left of it
    int key0;    // of the next stage
    int first_key;
    int end;  // of the keys that are copied
    const int32_t* table;
    const unsigned char* head;  // its keys in block 0
    int blocks[kChunks];        // that hold the next stage's chunks
  };

  __device__ const int32_t* TableOf(int seq) const {
    return a.p.step.block_tables + int64_t{seq} * a.p.step.block_table_stride;
  }

  // The blocks of the next stage. Where none of a chunk's keys is needed, some block of the piece.
  __device__ void LookUp(Source& source) const {
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      const int place = min(source.key0 + c * kChunkKeys, source.end - 1);
      source.blocks[c] = source.table[max(place, source.first_key) >> block_shift];
    }
  }

  __device__ void Open(Source& source) const {
    const DecodePiece piece = PieceOf<kOneQuery>(a, source.work);
    source.tiles = piece.num_tiles;
    source.stages = piece.num_tiles * Config::kStagesPerTile;
    source.key0 = piece.first_tile * kDecodeTile;
    source.first_key = piece.first_key;
    source.end = a.fused ? piece.s.context : piece.s.length();
    source.table = TableOf(piece.seq);
    source.head = reinterpret_cast<const unsigned char*>(
        HeadOfBlock<Cache>(a.p.kv, 0, a.p.layer, false, piece.kv_head));
    LookUp(source);
  }

  // Copies chunk `c` of the next stage, keys and values.
  __device__ void CopyChunk(const Source& source, int c, int stage) const {
    constexpr int kRowsAtOnce = 32 / Config::kPieces;
    const KvView& kv = a.p.kv;
    const int key0 = source.key0 + c * kChunkKeys;
    const int row_bytes = kv.head_dim * static_cast<int>(sizeof(Cache));
    const unsigned char* keys = source.head + source.blocks[c] * kv.block_bytes +
                                (key0 & (kv.block_size - 1)) * row_bytes + lane * 16;
    const unsigned char* values = keys + kv.num_kv_heads * kv.block_size * row_bytes;
    const int offset = stage * Config::kStageBytes + c * kChunkKeys * kRowBytes;
    if (row_bytes != kRowBytes || key0 < source.first_key || key0 + kChunkKeys > source.end) {
      CopyPartOfChunk(source, key0, offset, keys - lane * 16, values - lane * 16);
      return;
    }
#pragma unroll
    for (int i = 0; i < kChunkKeys / kRowsAtOnce; ++i) {
      // The piece's turn in this row: that of the lane's first row, and what i adds, whose bits are
      // others.
      const uint32_t turn = Config::kPieces >= 8 ? i * kRowsAtOnce % 8 * 16 : 0;
      const uint32_t place = ((write_lane + offset) ^ turn) + i * kRowsAtOnce * kRowBytes;
      CopyAsync16(place, keys + i * 512);
      CopyAsync16(place + Config::kHalfBytes, values + i * 512);
    }
  }

  // The same where rows or columns are missing, which become zeros.
  __device__ void CopyPartOfChunk(const Source& source, int key0, int offset,
                                  const unsigned char* keys, const unsigned char* values) const {
    const int row_bytes = a.p.kv.head_dim * static_cast<int>(sizeof(Cache));
#pragma unroll 1
    for (int i = lane; i < kChunkKeys * Config::kPieces; i += 32) {
      const int row = i / Config::kPieces;
      const int piece = i % Config::kPieces;
      const int key = key0 + row;
      const bool valid = piece * 16 < row_bytes && key >= source.first_key && key < source.end;
      const int from = valid ? row * row_bytes + piece * 16 : 0;
      const uint32_t place = SharedAddress(ring) + offset + PlaceOf(row, piece);
      CopyAsync16(place, keys + from, valid);
      CopyAsync16(place + Config::kHalfBytes, values + from, valid);
    }
  }

  // Starts the copy of the next stage, if there is one, and closes a group either way.
  __device__ void CopyNext(Source& source, int stage) const {
    if (source.work.num_tiles > 0) {
#pragma unroll
      for (int c = 0; c < kChunks; ++c) CopyChunk(source, c, stage);
      source.key0 += Config::kStageKeys;
      if (--source.stages > 0) {
        LookUp(source);
      } else {
        Advance(a, source.tiles, source.work);
        if (source.work.num_tiles > 0) Open(source);
      }
    }
    CopyAsyncCommit();
  }

  // ---- Queries, and the step's own token where the launch is fused

  // Activations' type: known to the compiler unless the cache is FP8.
  __device__ Element dtype() const {
    if constexpr (kFloat8) return a.p.dtype;
    return ElementOf<M>();
  }

  // A fused launch's one token of a sequence turns all its heads alike.
  struct Rotation {
    float cos[kLanePairs];
    float sin[kLanePairs];
  };

  __device__ bool InHead(int i) const { return 2 * (lane + 32 * i) < a.p.kv.head_dim; }

  __device__ Rotation RotationAt(int position) const {
    Rotation rotation;
#pragma unroll
    for (int i = 0; i < kLanePairs; ++i) {
      rotation.cos[i] = rotation.sin[i] = 0.0f;
      if (!pairs[i].rotated) continue;
      const int64_t table = int64_t{position} * (a.rope.rotary_dim / 2) + lane + 32 * i;
      rotation.cos[i] = a.rope.cos[table];
      rotation.sin[i] = a.rope.sin[table];
    }
    return rotation;
  }

  // Pair i of a row of activations, from its bits.
  __device__ void TakePair(const Rotation& rotation, int i, const uint16_t (&bits)[2], float& x,
                           float& y) const {
    x = ElementOfBits(dtype(), bits[0]);
    y = ElementOfBits(dtype(), bits[1]);
    if (!pairs[i].rotated) return;
    Rotate(x, y, rotation.cos[i], rotation.sin[i]);
    x = RoundTo(dtype(), x);
    y = RoundTo(dtype(), y);
  }

  // Where packed row `row`'s query begins, in bytes.
  __device__ const unsigned char* QueryOf(const DecodePiece& piece, int row) const {
    const int query = kOneQuery ? 0 : row / piece.s.group;
    const int head = piece.kv_head * piece.s.group + row - query * piece.s.group;
    return static_cast<const unsigned char*>(a.p.q) +
           ((piece.s.first_token + query) * a.p.q_stride + head * a.p.kv.head_dim) * 2;
  }

  // A row's elements of the lane's pairs; those beyond head_dim are some others.
  using PairBits = uint16_t[kLanePairs][2];
  __device__ void LoadPairs(const unsigned char* row, PairBits& bits) const {
#pragma unroll
    for (int i = 0; i < kLanePairs; ++i) {
      const int first = InHead(i) ? pairs[i].first : 0;
      const int second = InHead(i) ? pairs[i].second : 0;
      bits[i][0] = *reinterpret_cast<const uint16_t*>(row + first * 2);
      bits[i][1] = *reinterpret_cast<const uint16_t*>(row + second * 2);
    }
  }

  // Some rows of queries, all of whose loads are under way together.
  static constexpr int kRowsTogether = 4;
  static_assert(Config::kRows % kRowsTogether == 0, "rows come in groups");
  using RowBits = PairBits[kRowsTogether];

  __device__ void LoadRows(const DecodePiece& piece, int row0, RowBits& bits) const {
#pragma unroll
    for (int r = 0; r < kRowsTogether; ++r) {
      LoadPairs(QueryOf(piece, min(piece.row0 + row0 + r, piece.s.rows - 1)), bits[r]);
    }
  }

  // Rows beyond the last and columns beyond head_dim become zeros.
  __device__ void StageRows(const DecodePiece& piece, const Rotation& rotation, int row0,
                            const RowBits& bits) const {
#pragma unroll
    for (int r = 0; r < kRowsTogether; ++r) {
      const bool exists = piece.row0 + row0 + r < piece.s.rows;
      M* target = reinterpret_cast<M*>(queries + (row0 + r) * Config::kQueryRowBytes);
#pragma unroll
      for (int i = 0; i < kLanePairs; ++i) {
        float x;
        float y;
        TakePair(rotation, i, bits[r][i], x, y);
        const bool wanted = exists && InHead(i);
        // Beyond head_dim the pairs are neighbours, as where nothing rotates.
        target[pairs[i].first] = ToOperand<M>(wanted ? x : 0.0f);
        target[pairs[i].second] = ToOperand<M>(wanted ? y : 0.0f);
      }
    }
  }

  // The step's token of a fused launch: first as it comes, then as the cache has it.
  struct NewToken {
    PairBits key_bits;
    PairBits value_bits;  // of neighbours
    int block;
    Cache key[kLanePairs][2];
    Cache value[kLanePairs][2];
  };

  __device__ void LoadNewToken(const DecodePiece& piece, NewToken& token) const {
    const KvView& kv = a.p.kv;
    const unsigned char* key =
        static_cast<const unsigned char*>(a.rope.qkv) +
        (piece.s.first_token * a.rope.qkv_stride + (a.p.num_heads + piece.kv_head) * kv.head_dim) *
            2;
    const unsigned char* value = key + kv.num_kv_heads * kv.head_dim * 2;
    token.block = TableOf(piece.seq)[piece.s.context >> block_shift];
    LoadPairs(key, token.key_bits);
#pragma unroll
    for (int i = 0; i < kLanePairs; ++i) {
      const int dim = InHead(i) ? 2 * (lane + 32 * i) : 0;
      const uint32_t both = *reinterpret_cast<const uint32_t*>(value + dim * 2);
      token.value_bits[i][0] = static_cast<uint16_t>(both);
      token.value_bits[i][1] = static_cast<uint16_t>(both >> 16);
    }
  }

  // Rotates the key; by the item's first rows the token also goes into the cache.
  __device__ void TakeNewToken(const DecodePiece& piece, const Rotation& rotation,
                               NewToken& token) const {
    const KvView& kv = a.p.kv;
    Cache* key_row = HeadOfBlock<Cache>(kv, token.block, a.p.layer, false, piece.kv_head) +
                     (piece.s.context & (kv.block_size - 1)) * kv.head_dim;
    Cache* value_row = key_row + kv.num_kv_heads * kv.block_size * kv.head_dim;
    const float inverse_key_scale = 1.0f / kv.k_scale;
    const float inverse_value_scale = 1.0f / kv.v_scale;
#pragma unroll
    for (int i = 0; i < kLanePairs; ++i) {
      if (!InHead(i)) continue;
      const int dim = 2 * (lane + 32 * i);
      float x;
      float y;
      TakePair(rotation, i, token.key_bits[i], x, y);
      token.key[i][0] = ToCache<Cache>(x, inverse_key_scale);
      token.key[i][1] = ToCache<Cache>(y, inverse_key_scale);
      for (int e = 0; e < 2; ++e) {
        token.value[i][e] =
            ToCache<Cache>(ElementOfBits(dtype(), token.value_bits[i][e]), inverse_value_scale);
      }
      if (piece.row0 != 0) continue;
      key_row[pairs[i].first] = token.key[i][0];
      key_row[pairs[i].second] = token.key[i][1];
      value_row[dim] = token.value[i][0];
      value_row[dim + 1] = token.value[i][1];
    }
  }

  __device__ Cache* RingElement(int stage, bool value, int row, int dim) const {
    const int byte = dim * static_cast<int>(sizeof(Cache));
    return reinterpret_cast<Cache*>(ring + stage * Config::kStageBytes +
                                    (value ? Config::kHalfBytes : 0) + PlaceOf(row, byte / 16) +
                                    byte % 16);
  }

  // Puts its key and value into the stage, if they belong there.
  __device__ void InsertNewToken(const NewToken& token, int row, int stage) const {
    if (row < 0 || row >= Config::kStageKeys) return;
#pragma unroll
    for (int i = 0; i < kLanePairs; ++i) {
      if (!InHead(i)) continue;
      const int dim = 2 * (lane + 32 * i);
      *RingElement(stage, false, row, pairs[i].first) = token.key[i][0];
      *RingElement(stage, false, row, pairs[i].second) = token.key[i][1];
      *RingElement(stage, true, row, dim) = token.value[i][0];
      *RingElement(stage, true, row, dim + 1) = token.value[i][1];
    }
    __syncwarp();
  }

  // ---- Arithmetic

  // The columns of Q^T: lane 4 g + t holds of row g the elements that it holds of a key.
  __device__ void LoadQuery(int tile, int step, uint32_t (&q)[2]) const {
    const unsigned char* row = queries + (tile * 8 + lane / 4) * Config::kQueryRowBytes + step * 32;
    if constexpr (kFloat8) {  // four neighbours of a key
      const uint2 x = *reinterpret_cast<const uint2*>(row + lane % 4 * 8);
      q[0] = x.x;
      q[1] = x.y;
    } else {
      q[0] = *reinterpret_cast<const uint32_t*>(row + lane % 4 * 4);
      q[1] = *reinterpret_cast<const uint32_t*>(row + lane % 4 * 4 + 16);
    }
  }

  // A lane's part of the running softmax and of the result: rows 2 t and 2 t + 1 of each tile.
  struct Sums {
    float max[kRowTiles][2];  // over the warp
    float sum[kRowTiles][2];  // of this lane's keys
    float o[kRowTiles][kSteps][4];
  };

  using Query = uint32_t[Config::kQueryInRegisters ? kRowTiles : 1]
                        [Config::kQueryInRegisters ? kSteps : 1][2];
  using Scores = float[kRowTiles][kChunks][4];

  __device__ void AddScore(const Query& q, int step, int c, const uint32_t (&k)[4],
                           Scores& s) const {
#pragma unroll
    for (int tile = 0; tile < kRowTiles; ++tile) {
      if constexpr (Config::kQueryInRegisters) {
        Mma<M>(s[tile][c], k, q[tile][step][0], q[tile][step][1]);
      } else {
        uint32_t loaded[2];
        LoadQuery(tile, step, loaded);
        Mma<M>(s[tile][c], k, loaded[0], loaded[1]);
      }
    }
  }

  __device__ void MultiplyKeys(int stage, const Query& q, Scores& s) const {
    const uint32_t base = key_lane + stage * Config::kStageBytes;
#pragma unroll
    for (int batch = 0; batch < kLoads; batch += kBatch) {
      uint32_t r[kChunks][kBatch][4];
#pragma unroll
      for (int c = 0; c < kChunks; ++c) {
#pragma unroll
        for (int j = 0; j < kBatch && batch + j < kLoads; ++j) {
          LoadMatrix4((base ^ (batch + j) * 32) + c * kChunkKeys * kRowBytes, r[c][j]);
        }
      }
#pragma unroll
      for (int j = 0; j < kBatch && batch + j < kLoads; ++j) {
#pragma unroll
        for (int c = 0; c < kChunks; ++c) {
          const uint32_t(&x)[4] = r[c][j];
          if constexpr (kFloat8) {
            uint32_t left[4];
            uint32_t right[4];
            HalvesOfE4M3(x[0], left[0], left[2]);
            HalvesOfE4M3(x[1], left[1], left[3]);
            HalvesOfE4M3(x[2], right[0], right[2]);
            HalvesOfE4M3(x[3], right[1], right[3]);
            AddScore(q, 2 * (batch + j), c, left, s);
            AddScore(q, 2 * (batch + j) + 1, c, right, s);
          } else {
            AddScore(q, batch + j, c, x, s);
          }
        }
      }
    }
  }

  // Element of the head that accumulators e = 0, 1 (the lane's first row) or 2, 3 belong to.
  __device__ int DimOf(int step, int e) const {
    const int g = lane / 4;
    return step * 16 + (kFloat8 ? 2 * g + e / 2 : g + e / 2 * 8);
  }

  __device__ void MultiplyValues(int stage, const Scores& p, Sums& sums) const {
    const uint32_t base = value_lane + stage * Config::kStageBytes + Config::kHalfBytes;
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      uint32_t rows[kRowTiles][2];
#pragma unroll
      for (int tile = 0; tile < kRowTiles; ++tile) {
        rows[tile][0] = TransposeMatrix(Pack2<M>(p[tile][c][0], p[tile][c][1]));
        rows[tile][1] = TransposeMatrix(Pack2<M>(p[tile][c][2], p[tile][c][3]));
      }
#pragma unroll
      for (int batch = 0; batch < kLoads; batch += kBatch) {
        uint32_t r[kBatch][4];
#pragma unroll
        for (int j = 0; j < kBatch && batch + j < kLoads; ++j) {
          LoadMatrix4Transposed((base ^ (batch + j) * 32) + c * kChunkKeys * kRowBytes, r[j]);
        }
#pragma unroll
        for (int j = 0; j < kBatch && batch + j < kLoads; ++j) {
          uint32_t v[kFloat8 ? 2 : 1][4];
          if constexpr (kFloat8) {
            // Two neighbours of each of two keys become two keys of each of two neighbours.
#pragma unroll
            for (int i = 0; i < 4; ++i) {
              HalvesOfE4M3(__byte_perm(r[j][i], 0, 0x3120), v[i / 2][i % 2 * 2],
                           v[i / 2][i % 2 * 2 + 1]);
            }
          } else {
#pragma unroll
            for (int i = 0; i < 4; ++i) v[0][i] = r[j][i];
          }
          constexpr int kProducts = kFloat8 ? 2 : 1;
#pragma unroll
          for (int i = 0; i < kProducts; ++i) {
#pragma unroll
            for (int tile = 0; tile < kRowTiles; ++tile) {
              Mma<M>(sums.o[tile][(batch + j) * kProducts + i], v[i], rows[tile][0], rows[tile][1]);
            }
          }
        }
      }
    }
  }

  // What a piece's scores become exponents by.
  struct Rules {
    RowRule row[kRowTiles];
    bool exponents;  // not scale alone
    float scale;
    int lowest_place;   // keys up to here are seen by every row
    int highest_first;  // and from here on
  };

  __device__ Rules RulesOf(const DecodePiece& piece) const {
    Rules rules;
#pragma unroll
    for (int tile = 0; tile < kRowTiles; ++tile) {
      const int row = piece.row0 + tile * 8 + lane % 4 * 2;
      rules.row[tile] = RuleOf(a, piece.s, piece.kv_head, row, row + 1);
    }
    rules.exponents = rules.row[0].cap > 0.0f || a.p.alibi_slopes != nullptr;
    rules.scale = rules.exponents ? 1.0f : rules.row[0].scale;
    rules.lowest_place = piece.s.place(piece.row0);
    rules.highest_first = piece.s.first_key(min(piece.row0 + kDecodeRows, piece.s.rows) - 1);
    return rules;
  }

  // Hides the keys that a row does not see, and with a soft cap or slopes makes exponents.
  __device__ void Mask(const Rules& rules, int key0, Scores& s) const {
    const bool all =
        key0 + Config::kStageKeys - 1 <= rules.lowest_place && key0 >= rules.highest_first;
    if (all && !rules.exponents) return;
#pragma unroll
    for (int tile = 0; tile < kRowTiles; ++tile) {
      const RowRule& rule = rules.row[tile];
#pragma unroll
      for (int c = 0; c < kChunks; ++c) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int key = key0 + c * kChunkKeys + lane / 4 + i / 2 * 8;
          float& x = s[tile][c][i];
          if (rules.exponents) {
            x = rule.Exponent(x, i % 2, key);
          } else if (key > rule.place[i % 2] || key < rule.first_key[i % 2]) {
            x = -INFINITY;
          }
        }
      }
    }
  }

  // Turns scores into probabilities.
  __device__ void Softmax(float scale, Scores& s, Sums& sums) const {
    float shrink[kRowTiles][2];
    bool grown = false;
#pragma unroll
    for (int tile = 0; tile < kRowTiles; ++tile) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        float top = sums.max[tile][r];
#pragma unroll
        for (int c = 0; c < kChunks; ++c) {
          top = fmaxf(top, fmaxf(s[tile][c][r], s[tile][c][r + 2]));
        }
#pragma unroll
        for (int delta = 4; delta < 32; delta *= 2) {
          top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, delta));
        }
        const float base = top == -INFINITY ? 0.0f : top * scale;
        shrink[tile][r] = Exp2(sums.max[tile][r] * scale - base);
        grown = grown || shrink[tile][r] != 1.0f;
        sums.max[tile][r] = top;
        float added = 0.0f;
#pragma unroll
        for (int c = 0; c < kChunks; ++c) {
#pragma unroll
          for (int i = r; i < 4; i += 2) {
            s[tile][c][i] = Exp2(s[tile][c][i] * scale - base);
            added += s[tile][c][i];
          }
        }
        sums.sum[tile][r] = sums.sum[tile][r] * shrink[tile][r] + added;
      }
    }
    if (!__any_sync(0xffffffffu, grown)) return;
#pragma unroll
    for (int tile = 0; tile < kRowTiles; ++tile) {
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
#pragma unroll
        for (int i = 0; i < 4; ++i) sums.o[tile][step][i] *= shrink[tile][i % 2];
      }
    }
  }

  // ---- Items

  // The piece's result, or with a slot (not -1) its partial result.
  __device__ void Store(const DecodePiece& piece, float scale, Sums& sums, int slot) const {
#pragma unroll
    for (int tile = 0; tile < kRowTiles; ++tile) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        float total = sums.sum[tile][r];
#pragma unroll
        for (int delta = 4; delta < 32; delta *= 2) {
          total += __shfl_xor_sync(0xffffffffu, total, delta);
        }
        const int row = tile * 8 + lane % 4 * 2 + r;
        if (piece.row0 + row >= piece.s.rows) continue;
        if (slot < 0) {
          StoreRow(OutputOf(a, piece, row), __fdividef(a.p.kv.v_scale, total), r, sums.o[tile]);
          continue;
        }
        const int64_t partial = PartialSums<Config::kRows>::RowOf(slot, row);
        StorePartialRow(a.plan.partials + partial * a.p.kv.head_dim, r, sums.o[tile]);
        if (lane >= 4) continue;
        __stcg(reinterpret_cast<float2*>(a.plan.partial_sums + partial * 2),
               float2{sums.max[tile][r] * scale, total});
      }
    }
  }

  __device__ void StoreRow(int64_t at, float factor, int r, const float (&o)[kSteps][4]) const {
    uint16_t* out = static_cast<uint16_t*>(a.p.out) + at + DimOf(0, 0);
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      if (step * 16 >= a.p.kv.head_dim) continue;
      const uint32_t pair = PackElements(dtype(), o[step][r] * factor, o[step][r + 2] * factor);
      if constexpr (kFloat8) {
        *reinterpret_cast<uint32_t*>(out + step * 16) = pair;
      } else {
        out[step * 16] = static_cast<uint16_t>(pair);
        out[step * 16 + 8] = static_cast<uint16_t>(pair >> 16);
      }
    }
  }

  __device__ void StorePartialRow(float* row, int r, const float (&o)[kSteps][4]) const {
    float* out = row + DimOf(0, 0);
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      if (step * 16 >= a.p.kv.head_dim) continue;
      __stcg(out + step * 16, o[step][r]);
      __stcg(out + step * 16 + (kFloat8 ? 1 : 8), o[step][r + 2]);
    }
  }

  // One piece, whose stages from `stage` on are under way.
  __device__ void Attend(const DecodePiece& piece, Source& source, int& stage, int slot) const {
    __syncwarp();  // the last piece's queries have been read
    const bool insert = a.fused && piece.last;
    RowBits bits;
    LoadRows(piece, 0, bits);
    const int position = a.fused ? a.p.step.positions[piece.s.first_token] : 0;
    NewToken token;
    if (insert) LoadNewToken(piece, token);
    const Rotation rotation = RotationAt(position);
    StageRows(piece, rotation, 0, bits);
#pragma unroll 1
    for (int row0 = kRowsTogether; row0 < Config::kRows; row0 += kRowsTogether) {
      if (piece.row0 + row0 < piece.s.rows) LoadRows(piece, row0, bits);
      StageRows(piece, rotation, row0, bits);
    }
    if (insert) TakeNewToken(piece, rotation, token);
    const Rules rules = RulesOf(piece);
    __syncwarp();
    Query q;
    if constexpr (Config::kQueryInRegisters) {
#pragma unroll
      for (int tile = 0; tile < kRowTiles; ++tile) {
#pragma unroll
        for (int step = 0; step < kSteps; ++step) LoadQuery(tile, step, q[tile][step]);
      }
    }
    Sums sums = {};
#pragma unroll
    for (int tile = 0; tile < kRowTiles; ++tile) {
      sums.max[tile][0] = sums.max[tile][1] = -INFINITY;
    }
    int key0 = piece.first_tile * kDecodeTile;
    for (int left = piece.num_tiles * Config::kStagesPerTile; left > 0; --left) {
      CopyAsyncWait<kStages - 2>();
      __syncwarp();
      CopyNext(source, Wrap(stage + kStages - 1));
      if (insert) InsertNewToken(token, piece.s.context - key0, stage);
      Scores s = {};
      MultiplyKeys(stage, q, s);
      Mask(rules, key0, s);
      Softmax(rules.scale, s, sums);
      MultiplyValues(stage, s, sums);
      key0 += Config::kStageKeys;
      stage = Wrap(stage + 1);
    }
    Store(piece, rules.scale, sums, piece.whole ? -1 : slot);
  }

  // A worker's way through its share.
  struct Progress {
    DecodeWorker work;   // the item that it stands at
    bool open;           // which goes on after the share
    int last_worker;     // if it does: that has a part of it
    DecodeWorker first;  // the share's beginning
  };

  __device__ void Work(Progress& at) const {
    Source source;
    source.work = at.work;
    Open(source);
    int stage = 0;
    for (; stage < kStages - 1; ++stage) CopyNext(source, stage);
    stage = 0;
    while (at.work.num_tiles > 0) {
      const DecodePiece piece = PieceOf<kOneQuery>(a, at.work);
      Attend(piece, source, stage, 2 * worker + (at.work.tile == 0 ? 1 : 0));
      at.open = !piece.last;
      Advance(a, piece.num_tiles, at.work);
    }
    CopyAsyncWait<0>();
  }

  // Sums the split items whose last part in this block is the worker's: the one that goes on in the
  // next block, and the one that began before its share and ended in it.
  __device__ void SumItems(const Progress& at) const {
    const DecodeWorker& begin = at.first;
    const int item = at.work.seq * a.plan.units + at.work.unit;
    const int first_item = begin.seq * a.plan.units + begin.unit;
    const int before = begin.tile > 0 ? begin.first_worker : worker;  // that has its first item
#pragma unroll 1
    for (int end = 0; end < 2; ++end) {
      DecodeWorker work = at.work;
      ItemParts parts = {item, item == first_item ? before : worker, worker};
      if (end == 0) {
        if (!at.open || (worker + 1) % Config::kWarps != 0) continue;
        parts.last_worker = at.last_worker;
      } else {
        if (before == worker || (at.open && item == first_item)) continue;
        work = begin;
        parts = {first_item, before, worker};
      }
      const PartialSums<Config::kRows> partials(a, PieceOf<kOneQuery>(a, work), lane, ring);
      partials.Finish(parts, worker, Config::kWarps);
    }
  }

  __device__ void Run() const {
    const DecodeWorker work = a.plan.workers[worker];
    const int next = min(worker + 1, a.plan.max_workers - 1);
    Progress at = {work, false, a.plan.workers[next].last_worker, work};
    const bool busy = at.work.num_tiles > 0;
    if (busy) Work(at);
    __syncthreads();
    if (busy) SumItems(at);
  }
};

template <typename M, typename Cache, int kDim, int kRowTiles>
__global__ void __launch_bounds__(DecodeConfig<M, Cache, kDim, kRowTiles>::kThreads, 1)
    DecodeAttentionKernel(const __grid_constant__ AttentionArgs a) {
  cudaGridDependencySynchronize();
  cudaTriggerProgrammaticLaunchCompletion();
  DecodeWarp<M, Cache, kDim, kRowTiles>(a).Run();
}

}  // namespace trireme::cuda
