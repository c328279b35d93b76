// SPDX-License-Identifier: Apache-2.0
// Attention of many rows a sequence on Hopper, head_dim 64 and 128.
//
// A block stays on its processor and takes tiles of 128 packed rows, two warpgroups of 64 rows. A
// third warpgroup only copies. One of its warps brings keys and values, 128 tokens at a time, box by
// box of the block table through the bulk copy engine, into rings that run on from one tile of rows
// to the next; the others bring the next tile's queries. A warpgroup multiplies its next scores
// while it turns the last into probabilities, and the two overlap each other.
//
// FP8 keys and values are brought as they are; two warps turn them into float16 in the rings.
//
//   shared memory   Q [2 buffers][2][halves][64 rows][128 bytes]
//                   K ring, V ring [stages][halves][128][128 bytes]
//                   FP8: K, V as stored [128][head_dim]   barriers   items
//
// `halves`: groups of 64 columns; rows of 128 bytes are swizzled by the copy engine's pattern.
#pragma once

#include "kernels/cuda/paged_attention_tile.cuh"
#include "kernels/cuda/wgmma.cuh"

namespace trireme::cuda {

// T: the type of the matrix instructions; Cache: T, or FP8.
template <typename Cache, int kDim>
struct PrefillSm90Config {
  static constexpr bool kFloat8 = sizeof(Cache) == 1;
  static constexpr int kKeys = 128;  // of a tile
  static constexpr int kHalves = kDim / 64;
  static constexpr int kThreads = 384;
  static constexpr int kGroupRows = 64;  // rows of a warpgroup
  static constexpr int kQueryHalfBytes = kGroupRows * 128;
  static constexpr int kQueryBytes = 2 * kHalves * kQueryHalfBytes;  // of one buffer
  static constexpr int kHalfBytes = kKeys * 128;
  static constexpr int kTileBytes = kHalves * kHalfBytes;
  static constexpr int kStages = kDim == 128 ? 2 : 4;
  // FP8 keys and values as stored: a tile's in slots of their own, so that many copies are under way.
  static constexpr int kStoredSlots = 2;
  static constexpr int kStoredKeys = kKeys / kStoredSlots;
  static constexpr int kStoredBytes = kFloat8 ? kStoredKeys * kDim : 0;  // of a slot
  // Full and empty: of keys, of values, of queries, of stored keys and values.
  static constexpr int kBarrierBytes = (4 * kStages + 4 + 4 * kStoredSlots) * 8;
  static constexpr int kItemBytes = 128;
  static constexpr int kSharedBytes = 2 * kQueryBytes + 2 * kStages * kTileBytes +
                                      2 * kStoredSlots * kStoredBytes + kBarrierBytes + kItemBytes;
  // Of the warpgroup that copies.
  static constexpr int kConvertWarps = kFloat8 ? 2 : 0;
  static constexpr int kQueryWarps = 3 - kConvertWarps;
  static constexpr int kCopyRegisters = kFloat8 ? 56 : 40;
  static constexpr int kMathRegisters = kFloat8 ? 224 : 232;
};

struct PrefillSm90Args {
  AttentionArgs attention;
  CUtensorMap pool;  // rows of head_dim, in boxes of 64 columns (FP8: of all)
  int box_rows;
};

// One tile of packed rows of one KV head.
struct PrefillItem {
  SequenceRows s;
  int seq;
  int kv_head;
  int row0;
  int first_key;   // that any row sees
  int first_tile;  // of kKeys keys, absolute
  int num_tiles;
};

template <typename T, typename Cache, int kDim>
struct PrefillSm90Block {
  using Config = PrefillSm90Config<Cache, kDim>;
  static constexpr bool kFloat8 = Config::kFloat8;
  static constexpr int kStages = Config::kStages;
  static constexpr int kStoredSlots = Config::kStoredSlots;
  static constexpr int kConsumerWarps = 8;
  static constexpr int kQueryWarps = Config::kQueryWarps;
  static_assert(2 * sizeof(PrefillItem) <= Config::kItemBytes, "two items are shared");

  const PrefillSm90Args& args;
  const AttentionArgs& a;
  int items;
  uint32_t shared;

  __device__ explicit PrefillSm90Block(const PrefillSm90Args& all)
      : args(all), a(all.attention), shared(SharedAddress(DynamicShared())) {
    items = a.plan.totals->prefill_tiles * a.p.kv.num_kv_heads;
  }

  __device__ uint32_t Keys(int stage) const {
    return shared + 2 * Config::kQueryBytes + stage * Config::kTileBytes;
  }
  __device__ uint32_t Values(int stage) const { return Keys(kStages + stage); }
  // FP8 keys (slots 0 on) and values (slots kStoredSlots on) as they are in the cache.
  __device__ uint32_t Stored(int slot) const {
    return Keys(2 * kStages) + slot * Config::kStoredBytes;
  }
  __device__ uint32_t KeysFull(int stage) const { return Stored(2 * kStoredSlots) + stage * 8; }
  __device__ uint32_t KeysEmpty(int stage) const { return KeysFull(kStages + stage); }
  __device__ uint32_t ValuesFull(int stage) const { return KeysFull(2 * kStages + stage); }
  __device__ uint32_t ValuesEmpty(int stage) const { return KeysFull(3 * kStages + stage); }
  __device__ uint32_t QueriesFull(int buffer) const { return KeysFull(4 * kStages + buffer); }
  __device__ uint32_t QueriesEmpty(int buffer) const { return QueriesFull(2 + buffer); }
  __device__ uint32_t StoredFull(int slot) const { return QueriesFull(4 + slot); }
  __device__ uint32_t StoredEmpty(int slot) const {
    return QueriesFull(4 + 2 * kStoredSlots + slot);
  }
  __device__ uint32_t Queries(int buffer) const { return shared + buffer * Config::kQueryBytes; }
  __device__ PrefillItem* SharedItem(int buffer) const {
    return reinterpret_cast<PrefillItem*>(DynamicShared() +
                                          (QueriesFull(4 + 4 * kStoredSlots) - shared)) +
           buffer;
  }

  __device__ void InitBarriers() const {
    const int full_arrivals = kFloat8 ? Config::kConvertWarps : 1;
    for (int stage = 0; stage < kStages; ++stage) {
      BarrierInit(KeysFull(stage), full_arrivals);
      BarrierInit(ValuesFull(stage), full_arrivals);
      BarrierInit(KeysEmpty(stage), kConsumerWarps);
      BarrierInit(ValuesEmpty(stage), kConsumerWarps);
    }
    for (int buffer = 0; buffer < 2; ++buffer) {
      BarrierInit(QueriesFull(buffer), kQueryWarps);
      BarrierInit(QueriesEmpty(buffer), kConsumerWarps);
    }
    for (int slot = 0; kFloat8 && slot < 2 * kStoredSlots; ++slot) {
      BarrierInit(StoredFull(slot), 1);
      BarrierInit(StoredEmpty(slot), Config::kConvertWarps);
    }
    BarrierInitFence();
  }

  // The index of `round`'s item: forwards and backwards over the blocks in turn, so that who had
  // the longest tile of a round gets the shortest of the next.
  __device__ int IndexOf(int round) const {
    const int blocks = static_cast<int>(gridDim.x);
    const int block = static_cast<int>(blockIdx.x);
    return round * blocks + (round % 2 == 0 ? block : blocks - 1 - block);
  }
  // A block has an item of every round but perhaps the last.
  __device__ bool HasItem(int round) const { return IndexOf(round) < items; }

  __device__ PrefillItem ItemOf(int round) const {
    PrefillItem item;
    const int index = IndexOf(round);
    const PrefillTile tile = a.plan.prefill_tiles[index / a.p.kv.num_kv_heads];
    item.seq = tile.seq;
    item.row0 = tile.row;
    item.kv_head = index % a.p.kv.num_kv_heads;
    item.s =
        RowsOf(a.p.step.cu_query_lens, a.p.step.context_lens, tile.seq, a.plan.group, a.p.window);
    const int last = min(item.row0 + kPrefillRows, item.s.rows) - 1;
    item.first_key = item.s.first_key(item.row0);
    item.first_tile = item.first_key / Config::kKeys;
    item.num_tiles = item.s.place(last) / Config::kKeys + 1 - item.first_tile;
    return item;
  }

  // Rows of this item's tile that no copy fills or that lie behind the sequence's end.
  __device__ static bool NeedsZeros(const PrefillItem& item, int key0) {
    return key0 + Config::kKeys > item.s.length() || key0 < item.first_key;
  }

  // bfloat16 beside an FP8 cache becomes float16.
  __device__ static void ToHalves(uint4& x) {
    uint32_t* pairs = reinterpret_cast<uint32_t*>(&x);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      pairs[i] =
          PackFinite(__uint_as_float(pairs[i] << 16), __uint_as_float(pairs[i] & 0xffff0000u));
    }
  }

  // kQueryWarps warps: bring every item's facts and queries, one item ahead. All of a thread's
  // copies are under way at once.
  __device__ void ProduceQueries() const {
    constexpr int kPieces = kDim / 8;
    constexpr int kQueryThreads = kQueryWarps * 32;
    const int thread = static_cast<int>(threadIdx.x) - 32;
    const bool convert = kFloat8 && a.p.dtype == Element::kBFloat16;
    for (int round = 0; HasItem(round); ++round) {
      const PrefillItem item = ItemOf(round);
      const int buffer = round % 2;
      BarrierWait(QueriesEmpty(buffer), (round / 2 % 2) ^ 1);
      if (thread == 0) *SharedItem(buffer) = item;
      const int group = item.s.group;
      const int query0 = item.row0 / group;
      const int head0 = item.row0 - query0 * group;
      // Dividing by `group` what is below 128 + group.
      const uint32_t inverse = (1u << 20) / static_cast<uint32_t>(group) + 1;
      const uint16_t* heads = static_cast<const uint16_t*>(a.p.q) +
                              (item.s.first_token + query0) * a.p.q_stride +
                              item.kv_head * group * kDim;
#pragma unroll 4
      for (int i = thread; i < kPrefillRows * kPieces; i += kQueryThreads) {
        const uint32_t row = head0 + i / kPieces;
        const int query = static_cast<int>(row * inverse >> 20);
        const int head = static_cast<int>(row) - query * group;
        const bool exists = item.row0 + i / kPieces < item.s.rows;
        const int64_t at = exists ? query * a.p.q_stride + head * kDim + i % kPieces * 8 : 0;
        CopyAsync16(Queries(buffer) + QueryPlace(i), heads + at, exists);
      }
      CopyAsyncCommit();
      CopyAsyncWait<0>();
      if (convert) {
        unsigned char* base = DynamicShared() + (Queries(buffer) - shared);
#pragma unroll 8
        for (int i = thread; i < kPrefillRows * kPieces; i += kQueryThreads) {
          ToHalves(*reinterpret_cast<uint4*>(base + QueryPlace(i)));
        }
      }
      FenceAsyncProxy();
      __syncwarp();
      if (thread % 32 == 0) BarrierArrive(QueriesFull(buffer));
    }
  }

  // Where the 16 bytes `i` of a tile's queries lie.
  __device__ static int QueryPlace(int i) {
    constexpr int kPieces = kDim / 8;
    const int row = i / kPieces;
    const int piece = i % kPieces;
    const int half = row / 64 * Config::kHalves + piece / 8;
    return half * Config::kQueryHalfBytes + row % 64 * 128 + ((piece % 8) ^ (row % 8)) * 16;
  }

  // One warp's copy of boxes of keys or values to `target`, once `empty` says that it may. `wanted`:
  // the lane has a box, which begins at `row` of the pool and goes to `offset` of the target.
  __device__ void CopyBoxes(uint32_t target, uint32_t full, uint32_t empty, int phase, bool wanted,
                            int offset, int column, int row) const {
    constexpr int kBoxRowBytes = kFloat8 ? kDim : 128;
    const int copies = __popc(__ballot_sync(0xffffffffu, wanted));
    BarrierWait(empty, phase ^ 1);
    if (threadIdx.x % 32 == 0) BarrierExpect(full, copies * args.box_rows * kBoxRowBytes);
    __syncwarp();
    if (wanted) CopyBox(&args.pool, target + offset, column, row, full);
  }

  // One warp: brings every item's keys and values. Lane i copies box i / groups of a tile's column
  // group i % groups.
  __device__ void Produce() const {
    constexpr int kGroups = kFloat8 ? 1 : Config::kHalves;
    const KvView& kv = a.p.kv;
    const int boxes = Config::kKeys / args.box_rows;
    const int box = static_cast<int>(threadIdx.x) % 32 / kGroups;
    const int group = static_cast<int>(threadIdx.x) % 32 % kGroups;
    const int slot_of_box = box * args.box_rows / Config::kStoredKeys;
    const int slot_offset = box * args.box_rows % Config::kStoredKeys * kDim;
    const int offset = group * Config::kHalfBytes + box * args.box_rows * 128;
    const int rows_per_block =
        static_cast<int>(kv.block_bytes / (kDim * static_cast<int>(sizeof(Cache))));
    int stage = 0;
    int phase = 0;
    for (int round = 0; HasItem(round); ++round) {
      const PrefillItem item = ItemOf(round);
      const int32_t* table =
          a.p.step.block_tables + int64_t{item.seq} * a.p.step.block_table_stride;
      const int key_head_row = (a.p.layer * 2 * kv.num_kv_heads + item.kv_head) * kv.block_size;
      const int value_head_row = key_head_row + kv.num_kv_heads * kv.block_size;
      for (int tile = 0; tile < item.num_tiles; ++tile) {
        const int key0 = (item.first_tile + tile) * Config::kKeys + box * args.box_rows;
        const bool wanted =
            box < boxes && key0 < item.s.length() && key0 + args.box_rows > item.first_key;
        const int row =
            wanted ? table[key0 / kv.block_size] * rows_per_block + (key0 & (kv.block_size - 1))
                   : 0;
        if constexpr (kFloat8) {
#pragma unroll
          for (int slot = 0; slot < 2 * kStoredSlots; ++slot) {
            const int head_row = slot < kStoredSlots ? key_head_row : value_head_row;
            CopyBoxes(Stored(slot), StoredFull(slot), StoredEmpty(slot), phase,
                      wanted && slot_of_box == slot % kStoredSlots, slot_offset, 0, row + head_row);
          }
          phase ^= 1;
        } else {
          CopyBoxes(Keys(stage), KeysFull(stage), KeysEmpty(stage), phase, wanted, offset,
                    group * 64, row + key_head_row);
          CopyBoxes(Values(stage), ValuesFull(stage), ValuesEmpty(stage), phase, wanted, offset,
                    group * 64, row + value_head_row);
          if (++stage == kStages) {
            stage = 0;
            phase ^= 1;
          }
        }
      }
    }
  }

  // Turns a slot's FP8 rows into float16 rows at `target`; those outside [first, end) become zeros.
  // A thread has the same 8 columns of every kRowsAtOnce-th row.
  __device__ void ConvertSlot(int slot, uint32_t target, int first, int end) const {
    constexpr int kPieces = kDim / 8;
    constexpr int kRowsAtOnce = Config::kConvertWarps * 32 / kPieces;
    constexpr int kLoads = Config::kStoredKeys / kRowsAtOnce;
    constexpr int kTogether = 8;  // loads that are under way at once
    static_assert(8 % kRowsAtOnce == 0, "a row's order is its first row's and what i adds");
    const int thread = static_cast<int>(threadIdx.x) % (Config::kConvertWarps * 32);
    const int row0 = thread / kPieces;
    const int piece = thread % kPieces;
    const unsigned char* from = DynamicShared() + (Stored(slot) - shared) + thread * 8;
    const uint32_t to =
        target + piece / 8 * Config::kHalfBytes + row0 * 128 + ((piece % 8) ^ row0) * 16;
    const bool all = first <= 0 && end >= Config::kStoredKeys;
#pragma unroll 1
    for (int batch = 0; batch < kLoads; batch += kTogether) {
      uint2 x[kTogether];
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        x[i] = *reinterpret_cast<const uint2*>(from + (batch + i) * kRowsAtOnce * kDim);
        const int row = row0 + (batch + i) * kRowsAtOnce;
        if (!all && (row < first || row >= end)) x[i] = uint2{0, 0};
      }
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        uint4 halves;
        HalvesOfE4M3(x[i].x, halves.x, halves.y);
        HalvesOfE4M3(x[i].y, halves.z, halves.w);
        StoreShared16((to ^ (i * kRowsAtOnce % 8 * 16)) + (batch + i) * kRowsAtOnce * 128, halves);
      }
    }
    FenceAsyncProxy();
    __syncwarp();
  }

  // The last warps of the warpgroup that copies.
  __device__ void Convert() const {
    const bool arrives = threadIdx.x % 32 == 0;
    int stage = 0;
    int phase = 0;
    int stored_phase = 0;
    for (int round = 0; HasItem(round); ++round) {
      const PrefillItem item = ItemOf(round);
      for (int tile = 0; tile < item.num_tiles; ++tile) {
        const int key0 = (item.first_tile + tile) * Config::kKeys;
#pragma unroll
        for (int slot = 0; slot < 2 * kStoredSlots; ++slot) {
          const bool values = slot >= kStoredSlots;
          const int part = slot % kStoredSlots;
          const int first_key = key0 + part * Config::kStoredKeys;
          BarrierWait(StoredFull(slot), stored_phase);
          if (part == 0) BarrierWait(values ? ValuesEmpty(stage) : KeysEmpty(stage), phase ^ 1);
          ConvertSlot(slot,
                      (values ? Values(stage) : Keys(stage)) + part * Config::kStoredKeys * 128,
                      item.first_key - first_key, item.s.length() - first_key);
          if (!arrives) continue;
          BarrierArrive(StoredEmpty(slot));
          if (part == kStoredSlots - 1) BarrierArrive(values ? ValuesFull(stage) : KeysFull(stage));
        }
        stored_phase ^= 1;
        if (++stage == kStages) {
          stage = 0;
          phase ^= 1;
        }
      }
    }
  }
};

// A consumer warpgroup: 64 of an item's rows. kExponents: scores take more than a factor (a soft cap,
// slopes).
template <typename T, typename Cache, int kDim, bool kExponents>
struct PrefillSm90Group {
  using Block = PrefillSm90Block<T, Cache, kDim>;
  using Config = PrefillSm90Config<Cache, kDim>;
  static constexpr int kStages = Config::kStages;
  static constexpr int kSteps = kDim / 16;
  static constexpr int kKeyColumns = Config::kKeys / 8;

  const Block& b;
  const AttentionArgs& a;
  int group;   // 0 or 1
  int thread;  // of the warpgroup
  int lane;

  __device__ PrefillSm90Group(const Block& block, int index)
      : b(block),
        a(block.a),
        group(index),
        thread(static_cast<int>(threadIdx.x) % 128),
        lane(static_cast<int>(threadIdx.x) % 32) {}

  __device__ void Synchronize() const { NamedBarrier(1 + group, 128); }

  // Starts s = Q K^T.
  __device__ void StartScores(uint32_t queries, int stage, float (&s)[kKeyColumns][4]) const {
    WarpgroupFence();
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      const uint32_t column = step % 4 * 32;
      const uint64_t q =
          MatrixDescriptor(queries + step / 4 * Config::kQueryHalfBytes + column, 16);
      const uint64_t k =
          MatrixDescriptor(b.Keys(stage) + step / 4 * Config::kHalfBytes + column, 16);
      MultiplyShared<T>(s, q, k, step > 0);
    }
    WarpgroupCommit();
  }

  // Starts o += P V.
  __device__ void StartValues(int stage, const uint32_t (&p)[kKeyColumns / 2][4],
                              float (&o)[kDim / 8][4]) const {
    WarpgroupFence();
#pragma unroll
    for (int step = 0; step < kKeyColumns / 2; ++step) {
      MultiplyRegisters<T>(o, p[step],
                           MatrixDescriptor(b.Values(stage) + step * 16 * 128, Config::kHalfBytes));
    }
    WarpgroupCommit();
  }

  // Whatever lies behind the sequence's end, or was not copied, is no number to multiply with zero.
  __device__ void ZeroValues(const PrefillItem& item, int key0, int stage) const {
    unsigned char* base = DynamicShared() + (b.Values(stage) - b.shared);
    for (int i = thread; i < Config::kKeys * Config::kHalves * 8; i += 128) {
      const int row = i / (Config::kHalves * 8);
      if (key0 + row < item.s.length() && key0 + row >= item.first_key) continue;
      const int half = i / 8 % Config::kHalves;
      *reinterpret_cast<uint4*>(base + half * Config::kHalfBytes + row * 128 + i % 8 * 16) =
          uint4{0, 0, 0, 0};
    }
    FenceAsyncProxy();
    Synchronize();
  }

  // Raw scores of one tile: masks them, or makes exponents of them.
  __device__ void Mask(const RowRule& rule, int key0, int lowest_place, int highest_first,
                       float (&s)[kKeyColumns][4]) const {
    const int column = lane % 4 * 2;
    if constexpr (kExponents) {
#pragma unroll
      for (int n = 0; n < kKeyColumns; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          s[n][i] = rule.Exponent(s[n][i], i / 2, key0 + n * 8 + column + i % 2);
        }
      }
    } else if (key0 + Config::kKeys - 1 > lowest_place || key0 < highest_first) {
#pragma unroll
      for (int n = 0; n < kKeyColumns; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int key = key0 + n * 8 + column + i % 2;
          if (key > rule.place[i / 2] || key < rule.first_key[i / 2]) s[n][i] = -INFINITY;
        }
      }
    }
  }

  struct Sums {
    float max[2] = {-INFINITY, -INFINITY};  // of the raw scores
    float sum[2] = {0.0f, 0.0f};            // of this lane's columns
    float shrink[2];                        // what o shrinks by
  };

  __device__ void Softmax(float scale, float (&s)[kKeyColumns][4], Sums& sums) const {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float top = sums.max[r];
#pragma unroll
      for (int n = 0; n < kKeyColumns; ++n) {
        top = fmaxf(top, fmaxf(s[n][2 * r], s[n][2 * r + 1]));
      }
      top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
      top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
      const float base = top == -INFINITY ? 0.0f : top * scale;
      sums.shrink[r] = Exp2(sums.max[r] * scale - base);
      sums.max[r] = top;
      float added = 0.0f;
#pragma unroll
      for (int n = 0; n < kKeyColumns; ++n) {
        s[n][2 * r] = Exp2(s[n][2 * r] * scale - base);
        s[n][2 * r + 1] = Exp2(s[n][2 * r + 1] * scale - base);
        added += s[n][2 * r] + s[n][2 * r + 1];
      }
      sums.sum[r] = sums.sum[r] * sums.shrink[r] + added;
    }
  }

  __device__ static void Pack(const float (&s)[kKeyColumns][4], uint32_t (&p)[kKeyColumns / 2][4]) {
#pragma unroll
    for (int step = 0; step < kKeyColumns / 2; ++step) PackProbabilities<T>(s, step, p[step]);
  }

  __device__ static void Shrink(const Sums& sums, float (&o)[kDim / 8][4]) {
#pragma unroll
    for (int n = 0; n < kDim / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) o[n][i] *= sums.shrink[i / 2];
    }
  }

  __device__ void Store(const PrefillItem& item, int row0, const Sums& sums,
                        const float (&o)[kDim / 8][4]) const {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float total = sums.sum[r] + __shfl_xor_sync(0xffffffffu, sums.sum[r], 1);
      total += __shfl_xor_sync(0xffffffffu, total, 2);
      const int row = row0 + thread / 32 * 16 + lane / 4 + 8 * r;
      if (row >= item.s.rows) continue;
      const float factor = a.p.kv.v_scale / total;
      const int64_t token = item.s.first_token + row / item.s.group;
      const Element dtype = Config::kFloat8 ? a.p.dtype : ElementOf<T>();
      uint16_t* out = static_cast<uint16_t*>(a.p.out) + token * a.p.out_stride +
                      (item.kv_head * item.s.group + row % item.s.group) * kDim + lane % 4 * 2;
#pragma unroll
      for (int n = 0; n < kDim / 8; ++n) {
        *reinterpret_cast<uint32_t*>(out + n * 8) =
            PackElements(dtype, o[n][2 * r] * factor, o[n][2 * r + 1] * factor);
      }
    }
  }

  // This warp is through with what the barrier guards.
  __device__ void Release(uint32_t barrier) const {
    if (lane == 0) BarrierArrive(barrier);
  }

  // Where the rings stand.
  struct Cursor {
    int stage = 0;
    int phase = 0;
    __device__ void Advance() {
      if (++stage == kStages) {
        stage = 0;
        phase ^= 1;
      }
    }
  };

  __device__ void WaitForValues(const PrefillItem& item, int key0, const Cursor& at) const {
    BarrierWait(b.ValuesFull(at.stage), at.phase);
    if (!Config::kFloat8 && Block::NeedsZeros(item, key0)) ZeroValues(item, key0, at.stage);
  }

  // Both warpgroups take all of an item's tiles, whatever their rows see of them.
  __device__ void Attend(const PrefillItem& item, int buffer, Cursor& at) const {
    const int row0 = item.row0 + group * Config::kGroupRows;
    const int last_row = min(row0 + Config::kGroupRows, item.s.rows) - 1;
    const uint32_t queries = b.Queries(buffer) + group * Config::kHalves * Config::kQueryHalfBytes;
    const int lane_row = row0 + thread / 32 * 16 + lane / 4;
    const RowRule rule = RuleOf(a, item.s, item.kv_head, lane_row, lane_row + 8);
    const float scale = kExponents ? 1.0f : rule.scale;
    const int lowest_place = row0 < item.s.rows ? item.s.place(row0) : -1;
    const int highest_first = item.s.first_key(last_row);
    Sums sums;
    float o[kDim / 8][4] = {};
    float s[kKeyColumns][4];
    uint32_t p[kKeyColumns / 2][4];
    int key0 = item.first_tile * Config::kKeys;

    BarrierWait(b.KeysFull(at.stage), at.phase);
    StartScores(queries, at.stage, s);
    WarpgroupWait<0>();
    Settle(s);
    Release(b.KeysEmpty(at.stage));
    Mask(rule, key0, lowest_place, highest_first, s);
    Softmax(scale, s, sums);
    Pack(s, p);
    for (int tile = 1; tile < item.num_tiles; ++tile) {
      const Cursor values = at;
      at.Advance();
      BarrierWait(b.KeysFull(at.stage), at.phase);
      StartScores(queries, at.stage, s);
      WaitForValues(item, key0, values);
      StartValues(values.stage, p, o);
      key0 += Config::kKeys;
      WarpgroupWait<1>();
      Settle(s);
      Release(b.KeysEmpty(at.stage));
      Mask(rule, key0, lowest_place, highest_first, s);
      Softmax(scale, s, sums);
      WarpgroupWait<0>();
      Settle(o);
      Release(b.ValuesEmpty(values.stage));
      Shrink(sums, o);
      Pack(s, p);
    }
    Release(b.QueriesEmpty(buffer));
    WaitForValues(item, key0, at);
    StartValues(at.stage, p, o);
    WarpgroupWait<0>();
    Settle(o);
    Release(b.ValuesEmpty(at.stage));
    at.Advance();
    Store(item, row0, sums, o);
  }

  __device__ void Consume() const {
    Cursor at;
    for (int round = 0; b.HasItem(round); ++round) {
      const int buffer = round % 2;
      BarrierWait(b.QueriesFull(buffer), round / 2 % 2);
      const PrefillItem item = *b.SharedItem(buffer);
      Attend(item, buffer, at);
    }
  }
};

template <typename T, typename Cache, int kDim, bool kExponents>
__global__ void __launch_bounds__(PrefillSm90Config<Cache, kDim>::kThreads, 1)
    PrefillAttentionSm90Kernel(const __grid_constant__ PrefillSm90Args args) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  cudaGridDependencySynchronize();
  cudaTriggerProgrammaticLaunchCompletion();
  using Config = PrefillSm90Config<Cache, kDim>;
  const PrefillSm90Block<T, Cache, kDim> block(args);
  if (threadIdx.x == 0) block.InitBarriers();
  __syncthreads();
  const int group = static_cast<int>(threadIdx.x) / 128;
  if (group == 0) {
    GiveRegisters<Config::kCopyRegisters>();
    const int warp = static_cast<int>(threadIdx.x) / 32;
    if (warp == 0) {
      block.Produce();
    } else if (warp <= Config::kQueryWarps) {
      block.ProduceQueries();
    } else if constexpr (Config::kFloat8) {
      block.Convert();
    }
  } else {
    TakeRegisters<Config::kMathRegisters>();
    PrefillSm90Group<T, Cache, kDim, kExponents>(block, group - 1).Consume();
  }
#endif
}

}  // namespace trireme::cuda
