// SPDX-License-Identifier: Apache-2.0
// The warp's part of attention: 16 packed rows against chunks of 16 keys in shared memory, on
// mma.sync. Of the prefill kernel for every shape; the rest of the file serves all.
//
// M: the type of the matrix instructions (bfloat16, float16). Cache: M, or FP8, which becomes
// float16 in registers. kDim: head_dim rounded up to a size that is compiled; the rest is zeros.
// Rows in shared memory are an odd number of 16-byte pieces apart, so that ldmatrix meets no bank
// twice.
#pragma once

#include <type_traits>

#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/paged_attention_plan.h"
#include "kernels/cuda/paged_attention_rows.cuh"
#include "kernels/cuda/rotary.cuh"

namespace trireme::cuda {

constexpr float kLog2E = 1.4426950408889634f;
constexpr int kChunkKeys = 16;

struct AttentionArgs {
  PagedAttentionParams p;
  AttentionPlan plan;
  RopeKvWriteParams rope;
  bool fused;  // rotate q and write k and v here; every sequence has one query
};

__host__ __device__ constexpr int OddPieces(int bytes) { return ((bytes / 16) | 1) * 16; }

template <typename M, typename Cache, int kDim>
struct AttentionTile {
  static constexpr bool kFloat8 = sizeof(Cache) == 1;
  static constexpr int kKeyRowBytes = OddPieces(kDim * static_cast<int>(sizeof(Cache)));
  static constexpr int kQueryRowBytes = OddPieces(kDim * 2);
  static constexpr int kPieces = kDim * static_cast<int>(sizeof(Cache)) / 16;  // of a key row
  static constexpr int kSteps = kDim / 16;

  // Element of the head that accumulator `e` (0 or 1) of column tile `n` belongs to.
  __device__ static int DimOf(int n, int e, int lane) {
    const int t = lane % 4;
    return kFloat8 ? n / 2 * 16 + 4 * t + 2 * e + n % 2 : n * 8 + 2 * t + e;
  }

  // FP8 keys come four neighbours to a lane; q's columns are permuted alike.
  __device__ static void LoadQuery(const unsigned char* rows, int step, int lane,
                                   uint32_t (&a)[4]) {
    if constexpr (kFloat8) {
      const unsigned char* row = rows + lane / 4 * kQueryRowBytes + step * 32 + lane % 4 * 8;
      const uint2 top = *reinterpret_cast<const uint2*>(row);
      const uint2 bottom = *reinterpret_cast<const uint2*>(row + 8 * kQueryRowBytes);
      a[0] = top.x;
      a[1] = bottom.x;
      a[2] = top.y;
      a[3] = bottom.y;
    } else {
      LoadMatrix4(SharedAddress(rows) + lane % 16 * kQueryRowBytes + step * 32 + lane / 16 * 16, a);
    }
  }

  // Registers of one step's 16 x 16 keys or values in shared memory.
  static constexpr int kHeld = kFloat8 ? 2 : 4;
  // Steps whose loads are under way together: their latency is most of a step's time.
  static constexpr int kBatch = 4;

  __device__ static void LoadKeys(uint32_t keys, int step, int lane, uint32_t (&r)[kHeld]) {
    if constexpr (kFloat8) {
      LoadMatrix2(keys + lane % 16 * kKeyRowBytes + step * 16, r);
    } else {
      const int key = lane % 8 + lane / 16 * 8;
      LoadMatrix4(keys + key * kKeyRowBytes + step * 32 + lane / 8 % 2 * 16, r);
    }
  }

  // low and high: columns of keys 0-7 and 8-15.
  __device__ static void Score(const uint32_t (&r)[kHeld], const uint32_t (&a)[4], float (&low)[4],
                               float (&high)[4]) {
    if constexpr (kFloat8) {
      uint32_t halves[4];
      HalvesOfE4M3(r[0], halves[0], halves[1]);
      HalvesOfE4M3(r[1], halves[2], halves[3]);
      Mma<M>(low, a, halves[0], halves[1]);
      Mma<M>(high, a, halves[2], halves[3]);
    } else {
      Mma<M>(low, a, r[0], r[1]);
      Mma<M>(high, a, r[2], r[3]);
    }
  }

  __device__ static void LoadValues(uint32_t values, int step, int lane, uint32_t (&r)[kHeld]) {
    if constexpr (kFloat8) {
      LoadMatrix2Transposed(values + lane % 16 * kKeyRowBytes + step * 16, r);
    } else {
      LoadMatrix4Transposed(values + lane % 16 * kKeyRowBytes + step * 32 + lane / 16 * 16, r);
    }
  }

  // Adds probabilities [16 x 16 keys] times values to the row accumulators.
  __device__ static void AddValues(uint32_t values, int lane, const uint32_t (&a)[4],
                                   float (&o)[kDim / 8][4]) {
#pragma unroll
    for (int batch = 0; batch < kSteps; batch += kBatch) {
      uint32_t r[kBatch][kHeld];
#pragma unroll
      for (int i = 0; i < kBatch; ++i) LoadValues(values, batch + i, lane, r[i]);
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        const int n = 2 * (batch + i);
        if constexpr (kFloat8) {
          uint32_t top[2];
          uint32_t bottom[2];
          HalvesOfE4M3(__byte_perm(r[i][0], 0, 0x3120), top[0], top[1]);
          HalvesOfE4M3(__byte_perm(r[i][1], 0, 0x3120), bottom[0], bottom[1]);
          Mma<M>(o[n], a, top[0], bottom[0]);
          Mma<M>(o[n + 1], a, top[1], bottom[1]);
        } else {
          Mma<M>(o[n], a, r[i][0], r[i][1]);
          Mma<M>(o[n + 1], a, r[i][2], r[i][3]);
        }
      }
    }
  }
};

// What turns q . k into an exponent of two, and which keys a lane's two rows see.
struct RowRule {
  float scale;     // to the exponent; with a soft cap, to the cap's argument
  float cap;       // of the exponent; 0: none
  float slope[2];  // of the exponent
  int place[2];    // -1: no row
  int first_key[2];

  __device__ float Exponent(float s, int r, int key) const {
    s *= scale;
    if (cap > 0.0f) s = cap * (1.0f - __fdividef(2.0f, 1.0f + Exp2(2.0f * kLog2E * s)));
    s += slope[r] * static_cast<float>(key - place[r]);
    return key <= place[r] && key >= first_key[r] ? s : -INFINITY;
  }
};

__device__ inline RowRule RuleOf(const AttentionArgs& a, const SequenceRows& s, int kv_head,
                                 int first_row, int second_row) {
  RowRule rule;
  const float scale = a.p.scale * a.p.kv.k_scale;
  rule.cap = a.p.soft_cap * kLog2E;
  rule.scale = a.p.soft_cap > 0.0f ? scale / a.p.soft_cap : scale * kLog2E;
  for (int r = 0; r < 2; ++r) {
    const int row = r == 0 ? first_row : second_row;
    const bool exists = row < s.rows;
    rule.place[r] = exists ? s.place(row) : -1;
    rule.first_key[r] = exists ? s.first_key(row) : 0;
    rule.slope[r] = 0.0f;
    if (!exists || a.p.alibi_slopes == nullptr) continue;
    rule.slope[r] = a.p.alibi_slopes[kv_head * s.group + row % s.group] * kLog2E;
  }
  return rule;
}

// The running softmax of a lane's two rows. `sum` holds this lane's columns only.
template <int kDim>
struct RowSums {
  float max[2] = {-INFINITY, -INFINITY};
  float sum[2] = {0.0f, 0.0f};
  float o[kDim / 8][4] = {};

  // Turns exponents into probabilities.
  template <int kColumnTiles>
  __device__ void Add(float (&s)[kColumnTiles][4]) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float top = max[r];
#pragma unroll
      for (int n = 0; n < kColumnTiles; ++n) top = fmaxf(top, fmaxf(s[n][2 * r], s[n][2 * r + 1]));
      top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
      top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
      const float base = top == -INFINITY ? 0.0f : top;
      const float shrink = Exp2(max[r] - base);
      max[r] = top;
      float added = 0.0f;
#pragma unroll
      for (int n = 0; n < kColumnTiles; ++n) {
        s[n][2 * r] = Exp2(s[n][2 * r] - base);
        s[n][2 * r + 1] = Exp2(s[n][2 * r + 1] - base);
        added += s[n][2 * r] + s[n][2 * r + 1];
      }
      sum[r] = sum[r] * shrink + added;
      if (__any_sync(0xffffffffu, shrink != 1.0f)) {
#pragma unroll
        for (int n = 0; n < kDim / 8; ++n) {
          o[n][2 * r] *= shrink;
          o[n][2 * r + 1] *= shrink;
        }
      }
    }
  }

  // Over the four lanes that share a row.
  __device__ float TotalSum(int r) const {
    float total = sum[r] + __shfl_xor_sync(0xffffffffu, sum[r], 1);
    return total + __shfl_xor_sync(0xffffffffu, total, 2);
  }
};

// Probabilities of keys 16 c to 16 c + 15, as the left operand of the product with the values.
template <typename M, int kColumnTiles>
__device__ inline void PackProbabilities(const float (&s)[kColumnTiles][4], int c,
                                         uint32_t (&a)[4]) {
  a[0] = Pack2<M>(s[2 * c][0], s[2 * c][1]);
  a[1] = Pack2<M>(s[2 * c][2], s[2 * c][3]);
  a[2] = Pack2<M>(s[2 * c + 1][0], s[2 * c + 1][1]);
  a[3] = Pack2<M>(s[2 * c + 1][2], s[2 * c + 1][3]);
}

// Activations: bfloat16 or float16 by `dtype`, whatever M is.
__device__ inline float LoadElement(const void* row, Element dtype, int64_t i) {
  return dtype == Element::kBFloat16 ? ToFloat(static_cast<const __nv_bfloat16*>(row)[i])
                                     : ToFloat(static_cast<const __half*>(row)[i]);
}
__device__ inline void StoreElement(void* row, Element dtype, int64_t i, float x) {
  if (dtype == Element::kBFloat16) {
    static_cast<__nv_bfloat16*>(row)[i] = __float2bfloat16_rn(x);
  } else {
    static_cast<__half*>(row)[i] = __float2half_rn(x);
  }
}
template <typename T>
__device__ constexpr Element ElementOf() {
  return std::is_same_v<T, __half> ? Element::kFloat16 : Element::kBFloat16;
}

// Two neighbours, x first.
__device__ inline uint32_t PackElements(Element dtype, float x, float y) {
  const uint32_t brain = Pack2<__nv_bfloat16>(x, y);
  const uint32_t half = Pack2<__half>(x, y);
  return dtype == Element::kBFloat16 ? brain : half;
}
__device__ inline float ElementOfBits(Element dtype, uint16_t bits) {
  const float brain = __uint_as_float(uint32_t{bits} << 16);
  const float half = __half2float(__ushort_as_half(bits));
  return dtype == Element::kBFloat16 ? brain : half;
}
__device__ inline float RoundTo(Element dtype, float x) {
  return dtype == Element::kBFloat16 ? ToFloat(__float2bfloat16_rn(x))
                                     : ToFloat(__float2half_rn(x));
}

// A bfloat16 query beyond float16's range stays finite.
template <typename M>
__device__ M ToOperand(float x);
template <>
__device__ inline __nv_bfloat16 ToOperand<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}
template <>
__device__ inline __half ToOperand<__half>(float x) {
  return __ushort_as_half(static_cast<uint16_t>(PackFinite(x, 0.0f)));
}

// Elements first and second of packed row `row`'s query, rotated where the launch is fused.
__device__ inline void QueryPair(const AttentionArgs& a, const SequenceRows& s, int kv_head,
                                 int row, const RotaryPair& pair, int index, float& x, float& y) {
  const int64_t token = s.first_token + row / s.group;
  const int64_t offset =
      token * a.p.q_stride + int64_t{kv_head * s.group + row % s.group} * a.p.kv.head_dim;
  x = LoadElement(a.p.q, a.p.dtype, offset + pair.first);
  y = LoadElement(a.p.q, a.p.dtype, offset + pair.second);
  if (!pair.rotated) return;
  const int64_t table = int64_t{a.p.step.positions[token]} * (a.rope.rotary_dim / 2) + index;
  Rotate(x, y, a.rope.cos[table], a.rope.sin[table]);
  x = RoundTo(a.p.dtype, x);
  y = RoundTo(a.p.dtype, y);
}

// Rows [row0, row0 + kRows) into shared memory, zeros where there is none.
template <typename M, int kDim, int kRows, int kThreads>
__device__ void StageQueries(const AttentionArgs& a, const SequenceRows& s, int kv_head, int row0,
                             unsigned char* shared) {
  const RotaryStyle style = a.fused ? a.rope.style : RotaryStyle::kNone;
  constexpr int kPairs = kDim / 2;
  static_assert(kRows * kPairs % kThreads == 0, "every thread has as many pairs");
#pragma unroll 8
  for (int step = 0; step < kRows * kPairs / kThreads; ++step) {
    const int i = step * kThreads + static_cast<int>(threadIdx.x);
    const int row = i / kPairs;
    const int index = i % kPairs;
    M* target = reinterpret_cast<M*>(shared + row * OddPieces(kDim * 2));
    const bool in_head = 2 * index < a.p.kv.head_dim;
    const RotaryPair pair =
        in_head ? PairOf(style, a.rope.rotary_dim, index) : PairOf(RotaryStyle::kNone, 0, index);
    float x = 0.0f;
    float y = 0.0f;
    if (in_head && row0 + row < s.rows) {
      QueryPair(a, s, kv_head, row0 + row, pair, index, x, y);
    }
    target[pair.first] = ToOperand<M>(x);
    target[pair.second] = ToOperand<M>(y);
  }
}

// Copies `kKeys` rows of keys and of values, from `key0` on, to shared memory: rows outside
// [first, end) become zeros and are not read. `block` holds all of them.
template <typename Tile, typename Cache, int kKeys>
__device__ void CopyKeys(const AttentionArgs& a, int kv_head, int block, int key0, int first,
                         int end, int thread, int threads, uint32_t keys, uint32_t values) {
  const KvView& kv = a.p.kv;
  const int64_t in_block = int64_t{key0 & (kv.block_size - 1)} * kv.head_dim;
  const Cache* key_rows = HeadOfBlock<Cache>(kv, block, a.p.layer, false, kv_head) + in_block;
  const Cache* value_rows = key_rows + int64_t{kv.num_kv_heads} * kv.block_size * kv.head_dim;
  constexpr int kPerPiece = 16 / static_cast<int>(sizeof(Cache));
#pragma unroll
  for (int i = thread; i < kKeys * Tile::kPieces; i += threads) {
    const int row = i / Tile::kPieces;
    const int piece = i % Tile::kPieces;
    const bool valid = key0 + row >= first && key0 + row < end && piece * kPerPiece < kv.head_dim;
    const int source = valid ? row * kv.head_dim + piece * kPerPiece : 0;
    const uint32_t target = row * Tile::kKeyRowBytes + piece * 16;
    CopyAsync16(keys + target, key_rows + source, valid);
    CopyAsync16(values + target, value_rows + source, valid);
  }
}

}  // namespace trireme::cuda
