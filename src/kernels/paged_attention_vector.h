// SPDX-License-Identifier: Apache-2.0
// paged_attention.h over a vector type V and a cache of T. Include from ISA files only.
//
// A tile is some rows of one (sequence, kv head); a row is one query of one head of the group, rows
// run head-first, so their places never fall. Keys come in tiles of 64 that start at multiples of
// 64, keys of a tile in groups of 16:
//
//   scores[row][64] = q . k      rows in blocks of up to 6, sums over head_dim in rising order
//   m, l, o        : online softmax of the row within a span of 2048 keys
//   total          : spans joined in rising order, by one thread or by another one later
//
// Every sum runs in an order that only key places fix: a row gets the same bits in any block, tile
// or step, and keys outside its own range are never read for values nor counted.
#pragma once

#include "kernels/attention_tile.h"
#include "kernels/step_access.h"
#include "kernels/vector_math.h"
#include "tensor/float_formats.h"

namespace trireme::kernels {

constexpr int kBlockRows = 6;  // 6 x 4 accumulators of 16 registers' worth leave room for operands
constexpr int kKeyTile = 64;
constexpr int kKeyGroup = 16;
constexpr int kPrefetchRows = 12;  // rows of a tile that is bound by memory
constexpr int kGroupsPerTile = kKeyTile / kKeyGroup;

template <typename V, typename T>
class AttentionTileRun {
 public:
  using F = typename V::F;

  AttentionTileRun(const PagedAttentionParams& params, const AttentionTile& tile)
      : p_(params),
        tile_(tile),
        head_dim_(params.kv.layout.head_dim),
        block_bytes_(params.kv.layout.block_bytes()),
        keys_offset_(params.kv.layout.Offset(0, params.layer, false, tile.kv_head)),
        values_offset_(params.kv.layout.Offset(0, params.layer, true, tile.kv_head)) {
    const int group = p_.num_heads / p_.kv.layout.num_kv_heads;
    const int32_t first_token = p_.step.cu_query_lens[tile.seq];
    for (int r = 0; r < tile.num_rows; ++r) {
      const int64_t token = (tile.first_row + r) / group;
      const int head = tile.kv_head * group + static_cast<int>((tile.first_row + r) % group);
      const int64_t offset = int64_t{head} * head_dim_;
      q_[r] = p_.q + (first_token + token) * p_.q_stride + offset;
      out_[r] = p_.out + (first_token + token) * p_.out_stride + offset;
      slope_[r] = p_.alibi_slopes ? p_.alibi_slopes[head] : 0.0f;
      end_[r] = p_.step.context_lens[tile.seq] + token + 1;
      begin_[r] = p_.window > 0 && end_[r] > p_.window ? end_[r] - p_.window : 0;
    }
  }

  // All spans, joined as they come, into `out`.
  void Run() {
    AttentionRecord total(total_storage_, head_dim_);
    total.Clear(tile_.num_rows);
    AttentionRecord part(part_storage_, head_dim_);
    for (int64_t span = FirstSpan(); span < EndSpan(); ++span) {
      RunSpan(span, part);
      Join(part, total);
    }
    Finish(total);
  }

  // One span, left in `record` for JoinRecords.
  void RunSpan(int64_t span, AttentionRecord& record) {
    record.Clear(tile_.num_rows);
    const int64_t span_begin = span * kAttentionSpan;
    const int64_t span_end = span_begin + kAttentionSpan;
    int64_t key = begin_[0] > span_begin ? begin_[0] / kKeyTile * kKeyTile : span_begin;
    const int64_t last = end_[tile_.num_rows - 1] < span_end ? end_[tile_.num_rows - 1] : span_end;
    if (key >= last) return;
    const bool ask_ahead = tile_.num_rows <= kPrefetchRows;
    KeyTile next = FindTile(key);
    if (ask_ahead) ahead_.AskForAll(next, head_dim_);
    for (; key < last; key += kKeyTile) {
      const KeyTile tile = next;
      keys_ = tile.keys;
      values_ = tile.values;
      if (key + kKeyTile < last) {
        next = FindTile(key + kKeyTile);
        if (ask_ahead) ahead_.Start(next, head_dim_);
      }
      RunKeys(key, record);
    }
  }

  void JoinRecords(const float* records, int64_t record_floats) {
    AttentionRecord total(total_storage_, head_dim_);
    total.Clear(tile_.num_rows);
    for (int64_t span = FirstSpan(); span < EndSpan(); ++span) {
      // A record is only read here.
      AttentionRecord part(const_cast<float*>(records) + (span - FirstSpan()) * record_floats,
                           head_dim_);
      Join(part, total);
    }
    Finish(total);
  }

 private:
  int64_t FirstSpan() const { return begin_[0] / kAttentionSpan; }
  int64_t EndSpan() const {
    return (end_[tile_.num_rows - 1] + kAttentionSpan - 1) / kAttentionSpan;
  }

  // Keys of `row` within the key tile at `key`, counted from there.
  int RowBegin(int row, int64_t key) const {
    return begin_[row] > key ? static_cast<int>(begin_[row] - key) : 0;
  }
  int RowEnd(int row, int64_t key) const {
    const int64_t end = end_[row] - key;
    return end < kKeyTile ? static_cast<int>(end) : kKeyTile;
  }

  // The groups of the key tile at `key` that some row sees.
  struct KeyTile {
    int first = 0;
    int end = 0;
    const T* keys[kGroupsPerTile];
    const T* values[kGroupsPerTile];
  };

  KeyTile FindTile(int64_t key) const {
    const KvLayout& layout = p_.kv.layout;
    KeyTile tile;
    tile.first = RowBegin(0, key) / kKeyGroup;
    tile.end = (RowEnd(tile_.num_rows - 1, key) + kKeyGroup - 1) / kKeyGroup;
    for (int g = tile.first; g < tile.end; ++g) {
      const CacheSlot slot = SlotOf(p_.step, layout, tile_.seq, key + g * kKeyGroup);
      const int64_t in_block = int64_t{slot.token} * head_dim_;  // of keys as of values
      const std::byte* block = p_.kv.pool + slot.block * block_bytes_;
      tile.keys[g] = reinterpret_cast<const T*>(block + keys_offset_) + in_block;
      tile.values[g] = reinterpret_cast<const T*>(block + values_offset_) + in_block;
    }
    return tile;
  }

  // Few rows wait for memory more than they compute: the next key tile is on its way to the second
  // level cache while this one is worked on, asked for a little at a time, since a burst of requests
  // holds up the loads behind it.
  class TileAhead {
   public:
    void Start(const KeyTile& tile, int head_dim) {
      tile_ = tile;
      lines_ = int64_t{head_dim} * kKeyGroup * static_cast<int64_t>(sizeof(T)) / kLine;
      group_ = tile.first;
      line_ = 0;
    }
    void AskForAll(const KeyTile& tile, int head_dim) {
      Start(tile, head_dim);
      while (group_ < tile_.end) Ask();
    }
    // For a line of keys and one of values.
    TRIREME_ALWAYS_INLINE void Ask() {
      if (group_ >= tile_.end) return;
      __builtin_prefetch(reinterpret_cast<const char*>(tile_.keys[group_]) + line_ * kLine, 0, 2);
      __builtin_prefetch(reinterpret_cast<const char*>(tile_.values[group_]) + line_ * kLine, 0, 2);
      if (++line_ < lines_) return;
      line_ = 0;
      ++group_;
    }

   private:
    static constexpr int64_t kLine = 64;
    KeyTile tile_;
    int64_t lines_ = 0;
    int64_t line_ = 0;
    int group_ = 0;
  };

  void RunKeys(int64_t key, AttentionRecord& record) {
    const int blocks = (tile_.num_rows + kBlockRows - 1) / kBlockRows;
    for (int b = 0; b < blocks; ++b) {
      const int begin = tile_.num_rows * b / blocks;
      const int end = tile_.num_rows * (b + 1) / blocks;
      if (RowBegin(begin, key) >= kKeyTile || RowEnd(end - 1, key) <= 0) continue;
      switch (end - begin) {
        case 1: RunBlock<1>(key, begin, record); break;
        case 2: RunBlock<2>(key, begin, record); break;
        case 3: RunBlock<3>(key, begin, record); break;
        case 4: RunBlock<4>(key, begin, record); break;
        case 5: RunBlock<5>(key, begin, record); break;
        default: RunBlock<6>(key, begin, record); break;
      }
    }
  }

  template <int kRows>
  void RunBlock(int64_t key, int row, AttentionRecord& record) {
    alignas(64) float scores[kRows][kKeyTile];
    BlockScores<kRows>(key, row, scores);
    int common_begin = 0;
    int common_end = kKeyTile;
    int begin[kRows];
    int end[kRows];
    for (int r = 0; r < kRows; ++r) {
      begin[r] = RowBegin(row + r, key);
      end[r] = RowEnd(row + r, key);
      if (begin[r] >= end[r]) begin[r] = end[r] = 0;
      SoftmaxRow(key, row + r, begin[r], end[r], scores[r], record);
      if (begin[r] > common_begin) common_begin = begin[r];
      if (end[r] < common_end) common_end = end[r];
    }
    float* o[kRows];
    for (int r = 0; r < kRows; ++r) o[r] = record.o + int64_t{row + r} * head_dim_;
    if (common_begin >= common_end) {
      for (int r = 0; r < kRows; ++r) AddValues<1>(&o[r], &scores[r], begin[r], end[r]);
      return;
    }
    // Rising keys for every row: what only some rows see first and last, row by row.
    for (int r = 0; r < kRows; ++r) AddValues<1>(&o[r], &scores[r], begin[r], common_begin);
    AddValues<kRows>(o, scores, common_begin, common_end);
    for (int r = 0; r < kRows; ++r) AddValues<1>(&o[r], &scores[r], common_end, end[r]);
  }

  // scores[r][j] = q_r . k_j for the groups of 16 keys that some row of the block sees.
  template <int kRows>
  void BlockScores(int64_t key, int row, float (*scores)[kKeyTile]) {
    const int first = RowBegin(row, key) / kKeyGroup;
    const int last = (RowEnd(row + kRows - 1, key) + kKeyGroup - 1) / kKeyGroup;
    if (V::kWidth == kKeyGroup && first == 0 && last == kGroupsPerTile) {
      GroupScores<kRows, kGroupsPerTile>(row, 0, scores);
      return;
    }
    for (int g = first; g < last; ++g) GroupScores<kRows, 1>(row, g, scores);
  }

  template <int kRows, int kGroups>
  TRIREME_ALWAYS_INLINE void GroupScores(int row, int group, float (*scores)[kKeyTile]) {
    constexpr int kParts = kKeyGroup / V::kWidth;
    constexpr int kVectors = kGroups * kParts;
    F sums[kRows][kVectors];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
      for (int j = 0; j < kVectors; ++j) sums[r][j] = V::Zero();
    }
    const float* const* q = q_ + row;
    const T* const* keys = keys_ + group;
    for (int d = 0; d < head_dim_; ++d) {
      ahead_.Ask();
      F k[kVectors];
#pragma GCC unroll 8
      for (int j = 0; j < kVectors; ++j) {
        k[j] = V::Load(keys[j / kParts] + d * kKeyGroup + j % kParts * V::kWidth);
      }
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const F factor = V::Set(q[r][d]);
#pragma GCC unroll 8
        for (int j = 0; j < kVectors; ++j) sums[r][j] = V::Fmadd(factor, k[j], sums[r][j]);
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
      for (int j = 0; j < kVectors; ++j) {
        V::Store(scores[r] + group * kKeyGroup + j * V::kWidth, sums[r][j]);
      }
    }
  }

  // Turns scores [begin, end) of a row into weights against the row's largest score so far, and
  // brings its sums to that scale. Weights outside the range are not used by anyone.
  void SoftmaxRow(int64_t key, int row, int begin, int end, float* scores,
                  AttentionRecord& record) {
    if (begin >= end) return;
    constexpr int kVectors = kKeyTile / V::kWidth;
    F s[kVectors];
    F max = V::Set(-__builtin_inff());
#pragma GCC unroll 8
    for (int j = 0; j < kVectors; ++j) {
      s[j] = V::Mul(V::Load(scores + j * V::kWidth), V::Set(p_.scale));
      if (p_.soft_cap > 0.0f) {
        const F cap = V::Set(p_.soft_cap);
        s[j] = V::Mul(cap, VectorTanh<V>(V::Div(s[j], cap)));
      }
      if (p_.alibi_slopes) {
        const F distance =
            V::Add(V::Set(static_cast<float>(key + j * V::kWidth + 1 - end_[row])), V::Iota());
        s[j] = V::Add(s[j], V::Mul(V::Set(slope_[row]), distance));
      }
      s[j] = V::KeepLanes(s[j], Lane(begin - j * V::kWidth), Lane(end - j * V::kWidth),
                          V::Set(-__builtin_inff()));
      max = V::Max(max, s[j]);
    }
    const float tile_max = V::ReduceMax(max);
    const float old_max = record.m[row];
    const float new_max = tile_max > old_max ? tile_max : old_max;
    F sums[2] = {V::Zero(), V::Zero()};
#pragma GCC unroll 8
    for (int j = 0; j < kVectors; ++j) {
      s[j] = VectorExp<V>(V::Sub(s[j], V::Set(new_max)));
      V::Store(scores + j * V::kWidth, s[j]);
      sums[j % 2] = V::Add(sums[j % 2], s[j]);
    }
    const float sum = V::ReduceAdd(V::Add(sums[0], sums[1]));
    if (old_max == new_max) {
      record.l[row] += sum;
      return;
    }
    const F shrink = VectorExp<V>(V::Set(old_max - new_max));
    record.m[row] = new_max;
    record.l[row] = V::First(shrink) * record.l[row] + sum;
    float* o = record.o + int64_t{row} * head_dim_;
    for (int d = 0; d < head_dim_; d += V::kWidth) V::Store(o + d, V::Mul(V::Load(o + d), shrink));
  }

  static int Lane(int lane) { return lane < 0 ? 0 : lane > V::kWidth ? V::kWidth : lane; }

  // o[r] += sum over keys [begin, end) of the tile of scores[r][j] v_j, in rising order of keys.
  template <int kRows>
  void AddValues(float* const* o, const float (*scores)[kKeyTile], int begin, int end) {
    if (begin >= end) return;
    constexpr int kVectors = V::kWidth == 16 ? 4 : 2;
    int d = 0;
    for (; d + kVectors * V::kWidth <= head_dim_; d += kVectors * V::kWidth) {
      AddValueColumns<kRows, kVectors>(o, scores, begin, end, d);
    }
    for (; d < head_dim_; d += V::kWidth) AddValueColumns<kRows, 1>(o, scores, begin, end, d);
  }

  template <int kRows, int kVectors>
  TRIREME_ALWAYS_INLINE void AddValueColumns(float* const* o, const float (*scores)[kKeyTile],
                                             int begin, int end, int d) {
    F sums[kRows][kVectors];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
      for (int j = 0; j < kVectors; ++j) sums[r][j] = V::Load(o[r] + d + j * V::kWidth);
    }
    for (int key = begin; key < end;) {
      const int group = key / kKeyGroup;
      const int group_end = (group + 1) * kKeyGroup < end ? (group + 1) * kKeyGroup : end;
      const T* value = values_[group] + int64_t{key % kKeyGroup} * head_dim_ + d;
      for (; key < group_end; ++key, value += head_dim_) {
        ahead_.Ask();
        F v[kVectors];
#pragma GCC unroll 8
        for (int j = 0; j < kVectors; ++j) v[j] = V::Load(value + j * V::kWidth);
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
          const F weight = V::Set(scores[r][key]);
#pragma GCC unroll 8
          for (int j = 0; j < kVectors; ++j) sums[r][j] = V::Fmadd(weight, v[j], sums[r][j]);
        }
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
      for (int j = 0; j < kVectors; ++j) V::Store(o[r] + d + j * V::kWidth, sums[r][j]);
    }
  }

  // total += part, on the scale of the larger maximum.
  void Join(const AttentionRecord& part, AttentionRecord& total) {
    for (int r = 0; r < tile_.num_rows; ++r) {
      if (part.l[r] == 0.0f && part.m[r] == -__builtin_inff()) continue;  // no key of this span
      const float max = part.m[r] > total.m[r] ? part.m[r] : total.m[r];
      const F old_scale = VectorExp<V>(V::Set(total.m[r] - max));
      const F new_scale = VectorExp<V>(V::Set(part.m[r] - max));
      total.m[r] = max;
      total.l[r] =
          V::First(V::Fmadd(V::Set(part.l[r]), new_scale, V::Mul(V::Set(total.l[r]), old_scale)));
      const float* from = part.o + int64_t{r} * head_dim_;
      float* to = total.o + int64_t{r} * head_dim_;
      for (int d = 0; d < head_dim_; d += V::kWidth) {
        V::Store(to + d,
                 V::Fmadd(V::Load(from + d), new_scale, V::Mul(V::Load(to + d), old_scale)));
      }
    }
  }

  void Finish(const AttentionRecord& total) {
    for (int r = 0; r < tile_.num_rows; ++r) {
      const F sum = V::Set(total.l[r]);
      const float* o = total.o + int64_t{r} * head_dim_;
      for (int d = 0; d < head_dim_; d += V::kWidth)
        V::Store(out_[r] + d, V::Div(V::Load(o + d), sum));
    }
  }

  const PagedAttentionParams& p_;
  const AttentionTile& tile_;
  const int head_dim_;
  const int64_t block_bytes_;
  const int64_t keys_offset_;  // in a block
  const int64_t values_offset_;
  const float* q_[kAttentionTileRows];
  float* out_[kAttentionTileRows];
  float slope_[kAttentionTileRows];
  int64_t begin_[kAttentionTileRows];  // keys of a row: [begin, end)
  int64_t end_[kAttentionTileRows];
  const T* const* keys_ = nullptr;  // of the key tile in hand
  const T* const* values_ = nullptr;
  TileAhead ahead_;
  alignas(64) float part_storage_[AttentionRecord::Floats(kMaxHeadDim)];
  alignas(64) float total_storage_[AttentionRecord::Floats(kMaxHeadDim)];
};

template <typename V, typename T>
void RunAttentionTile(const PagedAttentionParams& params, const AttentionTile& tile) {
  AttentionTileRun<V, T>(params, tile).Run();
}

template <typename V, typename T>
void RunAttentionSpan(const PagedAttentionParams& params, const AttentionTile& tile, int64_t span,
                      float* storage) {
  AttentionRecord record(storage, params.kv.layout.head_dim);
  AttentionTileRun<V, T>(params, tile).RunSpan(span, record);
}

// The cache's type plays no part in joining records.
template <typename V>
void JoinAttentionSpans(const PagedAttentionParams& params, const AttentionTile& tile,
                        const float* records) {
  AttentionTileRun<V, float>(params, tile)
      .JoinRecords(records, AttentionRecord::Floats(params.kv.layout.head_dim));
}

}  // namespace trireme::kernels
