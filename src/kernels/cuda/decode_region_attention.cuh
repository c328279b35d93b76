// SPDX-License-Identifier: Apache-2.0
// Device part of decode_region.cuh: attention of one token a sequence over the paged cache.
//
// Items (decode_region_plan.h) go round the blocks. The last block done with the splits of a token's
// heads joins them.
#pragma once

#include "kernels/cuda/decode_region_linear.cuh"
#include "kernels/cuda/rotary.cuh"

namespace trireme::cuda {

// Eight neighbours of a cache row, as they are stored.
template <typename Cache>
struct CachedVector {
  uint4 bits;
  __device__ void ToFloats(float (&floats)[8]) const {
    const uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 pair = WidenPair(words[i], Cache());
      floats[2 * i] = pair.x;
      floats[2 * i + 1] = pair.y;
    }
  }
};
template <>
struct CachedVector<__nv_fp8_e4m3> {
  uint2 bits;
  __device__ void ToFloats(float (&floats)[8]) const {
    const uint32_t words[4] = {LowHalvesOfE4M3(bits.x), HighHalvesOfE4M3(bits.x),
                               LowHalvesOfE4M3(bits.y), HighHalvesOfE4M3(bits.y)};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 pair = WidenPair(words[i], __half());
      floats[2 * i] = pair.x;
      floats[2 * i + 1] = pair.y;
    }
  }
};

template <typename T, typename Cache>
class RegionAttention {
 public:
  static constexpr int kThreads = kRegionWarps * 32;
  static constexpr int kMinKeys = 48;  // of a split
  static constexpr int kTogether = 4;  // keys that a lane loads at once
  static constexpr int kJoined = 8;    // partials likewise
  static constexpr int kHeldBlocks = kRegionHeldBlocks;

  __device__ RegionAttention(const DecodeRegionParams& params, const DecodeRegionPlan& plan,
                             uint8_t* shared)
      : p_(params),
        plan_(plan),
        head_dim_(params.kv.head_dim),
        num_tokens_(min(params.num_rows, params.step.counts->num_tokens)),
        queries_(reinterpret_cast<float*>(shared + plan.x_offset)),
        new_key_(reinterpret_cast<Cache*>(queries_ + kRegionHeads * head_dim_)),
        new_value_(new_key_ + head_dim_),
        sums_(reinterpret_cast<float*>(shared + plan.x_offset + kRegionHeads * head_dim_ * 4 +
                                       2 * head_dim_ * 2)),
        item_(reinterpret_cast<RegionItem*>(shared + plan.item_offset)),
        blocks_(reinterpret_cast<int*>(item_ + 1)),
        cos_(reinterpret_cast<float*>(blocks_ + kHeldBlocks)),
        sin_(cos_ + head_dim_ / 2),
        num_items_(num_tokens_ * params.kv.num_kv_heads * plan.head_blocks * plan.max_splits),
        done_(reinterpret_cast<int*>(static_cast<uint8_t*>(params.workspace) + kRegionDoneOffset)),
        partials_(reinterpret_cast<float*>(static_cast<uint8_t*>(params.workspace) +
                                           plan.partials_offset)),
        warp_(static_cast<int>(threadIdx.x) / 32),
        lane_(static_cast<int>(threadIdx.x) % 32) {}

  __device__ void Run(const RegionLayer& layer, GridBarrier& grid) {
    const T* qkv = static_cast<const T*>(layer.qkv.y);
    T* out = static_cast<T*>(const_cast<void*>(layer.o.x));
    const int cache_layer = layer.cache_layer;
    const float kv_scale = layer.kv_scale;
    // Older keys and values do not wait for this layer's.
    Batch batch;
    int i = static_cast<int>(blockIdx.x);
    if (i < num_items_) {
      Open(i);
      Load(cache_layer, FirstKey(), batch);
    }
    grid.Wait();
    for (; i < num_items_; i += plan_.num_blocks) {
      if (open_ != i) {
        Open(i);
        Load(cache_layer, FirstKey(), batch);
      }
      if (item_->split >= item_->splits) continue;
      Stage(qkv, cache_layer, kv_scale);
      ComputeBarrier();
      AttendKeys(cache_layer, kv_scale, batch);
      ComputeBarrier();
      Join(kv_scale, out);
      ComputeBarrier();
    }
    grid.Arrive();
  }

 private:
  // What a lane reads at once.
  struct Batch {
    CachedVector<Cache> keys[kTogether];
    CachedVector<Cache> values[kTogether];
  };

  __device__ RegionItem ItemOf(int index) const {
    RegionItem item;
    item.split = index % plan_.max_splits;
    item.group = index / plan_.max_splits;
    const int head_block = item.group % plan_.head_blocks;
    item.kv_head = item.group / plan_.head_blocks % p_.kv.num_kv_heads;
    item.token = item.group / plan_.head_blocks / p_.kv.num_kv_heads;
    const int heads_a_kv = p_.num_heads / p_.kv.num_kv_heads;
    item.first_head = item.kv_head * heads_a_kv + head_block * kRegionHeads;
    item.heads = min(kRegionHeads, heads_a_kv - head_block * kRegionHeads);
    item.seq = p_.step.token_seqs[item.token];
    item.place = p_.step.context_lens[item.seq];
    const int length = item.place + 1;
    const int most = min(plan_.max_splits, (length + kMinKeys - 1) / kMinKeys);
    const int keys = ((length + most - 1) / most + 15) / 16 * 16;
    item.splits = (length + keys - 1) / keys;
    item.first_key = item.split * keys;
    item.end_key = min(length, item.first_key + keys);
    return item;
  }

  // Makes `index` the block's item: itself, its first blocks and its rotation in shared memory, where
  // they stay for the layers to come.
  __device__ void Open(int index) {
    if (open_ == index) return;
    open_ = index;
    const int thread = static_cast<int>(threadIdx.x);
    ComputeBarrier();
    if (thread == 0) *item_ = ItemOf(index);
    ComputeBarrier();
    const int first = item_->first_key >> BlockShift();
    const int end = min((item_->end_key - 1) >> BlockShift(), first + kHeldBlocks - 1);
    for (int i = thread; i <= end - first; i += kThreads) blocks_[i] = TableEntry(first + i);
    const int half = p_.style == RotaryStyle::kNone ? 0 : p_.rotary_dim / 2;
    const int64_t table = int64_t{p_.step.positions[item_->token]} * half;
    for (int i = thread; i < half; i += kThreads) {
      cos_[i] = p_.cos[table + i];
      sin_[i] = p_.sin[table + i];
    }
    ComputeBarrier();
  }

  __device__ int BlockShift() const { return __ffs(p_.kv.block_size) - 1; }
  __device__ int TableEntry(int i) const {
    return p_.step.block_tables[int64_t{item_->seq} * p_.step.block_table_stride + i];
  }

  __device__ Cache* CachedRow(int layer, bool value, int key) const {
    const int shift = BlockShift();
    const int held = (key >> shift) - (item_->first_key >> shift);
    const int block = held < kHeldBlocks ? blocks_[held] : TableEntry(key >> shift);
    return HeadOfBlock<Cache>(p_.kv, block, layer, value, item_->kv_head) +
           int64_t{key & (p_.kv.block_size - 1)} * head_dim_;
  }

  // A warp takes keys_at_once() neighbouring keys, one for each head_dim / 8 of its lanes.
  __device__ int keys_at_once() const { return 256 / head_dim_; }
  __device__ int FirstKey() const { return item_->first_key + warp_ * keys_at_once(); }
  __device__ int KeyOf(int first, int u) const {
    return first + u * kRegionWarps * keys_at_once() + lane_ / (head_dim_ / 8);
  }

  // The lane's keys of the batch that starts at `first`, but for the new one and those beyond.
  __device__ void Load(int layer, int first, Batch& batch) const {
    const int dim = lane_ % (head_dim_ / 8) * 8;
    const int end = min(item_->end_key, item_->place);
#pragma unroll
    for (int u = 0; u < kTogether; ++u) {
      const int key = KeyOf(first, u);
      batch.keys[u] = {};
      batch.values[u] = {};
      if (key >= end) continue;
      batch.keys[u] =
          *reinterpret_cast<const CachedVector<Cache>*>(CachedRow(layer, false, key) + dim);
      batch.values[u] =
          *reinterpret_cast<const CachedVector<Cache>*>(CachedRow(layer, true, key) + dim);
    }
  }

  __device__ float2 Rotated(const T* head, const RotaryPair& pair, int i) const {
    float a = ToFloat(LoadFresh(head + pair.first));
    float b = ToFloat(LoadFresh(head + pair.second));
    if (pair.rotated) {
      Rotate(a, b, cos_[i], sin_[i]);
      a = ToFloat(FromFloat<T>(a));
      b = ToFloat(FromFloat<T>(b));
    }
    return {a, b};
  }

  // Rotated queries, and in the last split the new token's key and value, into shared memory; one
  // item of a kv head writes them to the cache.
  __device__ void Stage(const T* qkv, int layer, float kv_scale) const {
    const RegionItem& item = *item_;
    const int half = head_dim_ / 2;
    const int kv_heads = p_.kv.num_kv_heads;
    const T* row = qkv + int64_t{item.token} * (p_.num_heads + 2 * kv_heads) * head_dim_;
    // Heads that the item lacks get the last one's queries: their results are not looked at.
    const int units = (kRegionHeads + ((item.split + 1 == item.splits) ? 1 : 0)) * half;
    for (int unit = static_cast<int>(threadIdx.x); unit < units; unit += kThreads) {
      const int head = unit / half;
      const int i = unit % half;
      const RotaryPair pair = PairOf(p_.style, p_.rotary_dim, i);
      if (head < kRegionHeads) {
        const int from = item.first_head + min(head, item.heads - 1);
        const float2 q = Rotated(row + int64_t{from} * head_dim_, pair, i);
        queries_[head * head_dim_ + pair.first] = q.x;
        queries_[head * head_dim_ + pair.second] = q.y;
        continue;
      }
      const T* key = row + int64_t{p_.num_heads + item.kv_head} * head_dim_;
      const T* value = key + int64_t{kv_heads} * head_dim_;
      const float inverse_scale = 1.0f / kv_scale;
      const float2 k = Rotated(key, pair, i);
      new_key_[pair.first] = ToCache<Cache>(k.x, inverse_scale);
      new_key_[pair.second] = ToCache<Cache>(k.y, inverse_scale);
      new_value_[2 * i] = ToCache<Cache>(ToFloat(LoadFresh(value + 2 * i)), inverse_scale);
      new_value_[2 * i + 1] = ToCache<Cache>(ToFloat(LoadFresh(value + 2 * i + 1)), inverse_scale);
      if (item.first_head % (p_.num_heads / kv_heads) != 0) continue;
      Cache* cached_key = CachedRow(layer, false, item.place);
      Cache* cached_value = CachedRow(layer, true, item.place);
      cached_key[pair.first] = new_key_[pair.first];
      cached_key[pair.second] = new_key_[pair.second];
      cached_value[2 * i] = new_value_[2 * i];
      cached_value[2 * i + 1] = new_value_[2 * i + 1];
    }
  }

  // A lane's running softmax: eight dimensions of every head, over the keys of its part of the warp.
  struct Running {
    float maximum[kRegionHeads];  // of scores in units of log2
    float sum[kRegionHeads];
    float values[kRegionHeads][8];
  };

  // Scaled so that none of two running sums overflows; sums of no key stay zero.
  __device__ static float Rescale(float from, float to) {
    return to == -INFINITY ? 0.0f : exp2f(from - to);
  }

  __device__ void AttendKeys(int layer, float kv_scale, Batch& batch) const {
    const RegionItem& item = *item_;
    const int lanes = head_dim_ / 8;
    const int sub = lane_ / lanes;
    const int dim = lane_ % lanes * 8;
    Running running;
#pragma unroll
    for (int h = 0; h < kRegionHeads; ++h) {
      running.maximum[h] = -INFINITY;
      running.sum[h] = 0.0f;
#pragma unroll
      for (int e = 0; e < 8; ++e) running.values[h][e] = 0.0f;
    }
    const float score_scale = p_.attention_scale * kv_scale * 1.44269504f;
    const int stride = kTogether * kRegionWarps * keys_at_once();
    for (int first = FirstKey(); first < item.end_key; first += stride) {
      if (first != FirstKey()) Load(layer, first, batch);
#pragma unroll
      for (int u = 0; u < kTogether; ++u) {
        // Staged by the last split only: elsewhere there may be a NaN, which no zero takes away.
        const int key = KeyOf(first, u);
        if (key != item.place || key >= item.end_key) continue;
        batch.keys[u] = *reinterpret_cast<const CachedVector<Cache>*>(new_key_ + dim);
        batch.values[u] = *reinterpret_cast<const CachedVector<Cache>*>(new_value_ + dim);
      }
      float scores[kTogether][kRegionHeads];
      Score(dim, batch.keys, scores);
#pragma unroll
      for (int u = 0; u < kTogether; ++u) {
        const bool inside = KeyOf(first, u) < item.end_key;
#pragma unroll
        for (int h = 0; h < kRegionHeads; ++h) {
          scores[u][h] = inside ? scores[u][h] * score_scale : -INFINITY;
        }
      }
      Accumulate(scores, batch.values, running);
    }
    MergeLanes(lanes, running);
    KeepSums(sub, dim, running);
  }

  __device__ void Score(int dim, const CachedVector<Cache> (&keys)[kTogether],
                        float (&scores)[kTogether][kRegionHeads]) const {
    float k[kTogether][8];
#pragma unroll
    for (int u = 0; u < kTogether; ++u) keys[u].ToFloats(k[u]);
#pragma unroll
    for (int h = 0; h < kRegionHeads; ++h) {
      const auto* query = reinterpret_cast<const float4*>(queries_ + h * head_dim_ + dim);
      const float4 q[2] = {query[0], query[1]};
#pragma unroll
      for (int u = 0; u < kTogether; ++u) {
        scores[u][h] = q[0].x * k[u][0] + q[0].y * k[u][1] + q[0].z * k[u][2] + q[0].w * k[u][3] +
                       q[1].x * k[u][4] + q[1].y * k[u][5] + q[1].z * k[u][6] + q[1].w * k[u][7];
      }
    }
    for (int mask = head_dim_ / 16; mask > 0; mask /= 2) {
#pragma unroll
      for (int u = 0; u < kTogether; ++u) {
#pragma unroll
        for (int h = 0; h < kRegionHeads; ++h) {
          scores[u][h] += __shfl_xor_sync(0xffffffffu, scores[u][h], mask);
        }
      }
    }
  }

  __device__ void Accumulate(float (&scores)[kTogether][kRegionHeads],
                             const CachedVector<Cache> (&values)[kTogether],
                             Running& running) const {
#pragma unroll
    for (int h = 0; h < kRegionHeads; ++h) {
      float maximum = running.maximum[h];
#pragma unroll
      for (int u = 0; u < kTogether; ++u) maximum = fmaxf(maximum, scores[u][h]);
      const float rescale = Rescale(running.maximum[h], maximum);
      running.maximum[h] = maximum;
      running.sum[h] *= rescale;
#pragma unroll
      for (int e = 0; e < 8; ++e) running.values[h][e] *= rescale;
#pragma unroll
      for (int u = 0; u < kTogether; ++u) {
        scores[u][h] = Rescale(scores[u][h], maximum);
        running.sum[h] += scores[u][h];
      }
    }
#pragma unroll
    for (int u = 0; u < kTogether; ++u) {
      float value[8];
      values[u].ToFloats(value);
#pragma unroll
      for (int h = 0; h < kRegionHeads; ++h) {
#pragma unroll
        for (int e = 0; e < 8; ++e) running.values[h][e] += scores[u][h] * value[e];
      }
    }
  }

  // Over the parts of the warp that took different keys.
  __device__ void MergeLanes(int lanes, Running& running) const {
    for (int mask = lanes; mask < 32; mask *= 2) {
#pragma unroll
      for (int h = 0; h < kRegionHeads; ++h) {
        const float other = __shfl_xor_sync(0xffffffffu, running.maximum[h], mask);
        const float maximum = fmaxf(running.maximum[h], other);
        const float mine = Rescale(running.maximum[h], maximum);
        const float theirs = Rescale(other, maximum);
        running.maximum[h] = maximum;
        running.sum[h] =
            running.sum[h] * mine + __shfl_xor_sync(0xffffffffu, running.sum[h], mask) * theirs;
#pragma unroll
        for (int e = 0; e < 8; ++e) {
          running.values[h][e] = running.values[h][e] * mine +
                                 __shfl_xor_sync(0xffffffffu, running.values[h][e], mask) * theirs;
        }
      }
    }
  }

  // Sums of a warp in shared memory: [head][head_dim] values, [head] maxima, [head] sums.
  __device__ float* SumsOf(int warp) const { return sums_ + warp * plan_.partial_floats; }

  __device__ void KeepSums(int sub, int dim, const Running& running) const {
    if (sub != 0) return;
    float* sums = SumsOf(warp_);
    float* maxima = sums + kRegionHeads * head_dim_;
#pragma unroll
    for (int h = 0; h < kRegionHeads; ++h) {
#pragma unroll
      for (int e = 0; e < 8; e += 4) {
        *reinterpret_cast<float4*>(sums + h * head_dim_ + dim + e) = {
            running.values[h][e], running.values[h][e + 1], running.values[h][e + 2],
            running.values[h][e + 3]};
      }
      if (dim == 0) {
        maxima[h] = running.maximum[h];
        maxima[kRegionHeads + h] = running.sum[h];
      }
    }
  }

  // Four outputs over `count` partials, `stride` floats apart, in their order.
  struct Joined {
    float maximum = -INFINITY;
    float sum = 0.0f;
    float4 values = {};

    __device__ void Rescaled(float to) {
      const float scale = Rescale(maximum, to);
      maximum = to;
      sum *= scale;
      values = {values.x * scale, values.y * scale, values.z * scale, values.w * scale};
    }
    __device__ void Add(const Joined& other) {
      sum += other.sum;
      values = {values.x + other.values.x, values.y + other.values.y, values.z + other.values.z,
                values.w + other.values.w};
    }
  };
  template <bool kFresh>
  __device__ Joined JoinPartials(const float* partials, int count, int stride, int i) const {
    const auto load = [](const float* at) { return kFresh ? __ldcg(at) : *at; };
    const int maxima = kRegionHeads * head_dim_ + i / head_dim_;
    Joined joined;
    for (int base = 0; base < count; base += kJoined) {
      Joined read[kJoined];
      float maximum = joined.maximum;
#pragma unroll
      for (int u = 0; u < kJoined; ++u) {
        if (base + u >= count) continue;
        const float* from = partials + (base + u) * stride;
        const auto* values = reinterpret_cast<const float4*>(from + i);
        read[u].maximum = load(from + maxima);
        read[u].sum = load(from + maxima + kRegionHeads);
        read[u].values = kFresh ? __ldcg(values) : *values;
      }
#pragma unroll
      for (int u = 0; u < kJoined; ++u) maximum = fmaxf(maximum, read[u].maximum);
      joined.Rescaled(maximum);
#pragma unroll
      for (int u = 0; u < kJoined; ++u) {
        read[u].Rescaled(maximum);
        joined.Add(read[u]);
      }
    }
    return joined;
  }

  __device__ static void StoreOutputs(const Joined& joined, float kv_scale, T* out) {
    const float scale = kv_scale / joined.sum;
    const uint2 packed = {PackPair(joined.values.x * scale, joined.values.y * scale, T()),
                          PackPair(joined.values.z * scale, joined.values.w * scale, T())};
    *reinterpret_cast<uint2*>(out) = packed;
  }

  // The item's result over its warps; over its splits by the last block of them to come here.
  __device__ void Join(float kv_scale, T* out) const {
    const RegionItem& item = *item_;
    const int stride = plan_.partial_floats;
    const int values = item.heads * head_dim_;
    T* row = out + (int64_t{item.token} * p_.num_heads + item.first_head) * head_dim_;
    float* partials = partials_ + int64_t{item.group} * plan_.max_splits * stride;
    float* mine = partials + item.split * stride;
    const int first = static_cast<int>(threadIdx.x) * 4;
    for (int i = first; i < values; i += kThreads * 4) {
      const Joined joined = JoinPartials<false>(sums_, kRegionWarps, stride, i);
      if (item.splits == 1) {
        StoreOutputs(joined, kv_scale, row + i);
        continue;
      }
      *reinterpret_cast<float4*>(mine + i) = joined.values;
      if (i % head_dim_ == 0) {
        float* maxima = mine + kRegionHeads * head_dim_ + i / head_dim_;
        maxima[0] = joined.maximum;
        maxima[kRegionHeads] = joined.sum;
      }
    }
    if (item.splits == 1 || !IsLastSplit(item)) return;
    for (int i = first; i < values; i += kThreads * 4) {
      StoreOutputs(JoinPartials<true>(partials, item.splits, stride, i), kv_scale, row + i);
    }
  }

  // Whether all other splits of the item's group are done; then their partials are seen.
  __device__ bool IsLastSplit(const RegionItem& item) const {
    int* flag = reinterpret_cast<int*>(queries_);
    ComputeBarrier();
    if (threadIdx.x == 0) {
      int before;
      asm volatile("atom.acq_rel.gpu.global.add.s32 %0, [%1], 1;"
                   : "=r"(before)
                   : "l"(done_ + item.group)
                   : "memory");
      const bool last = before + 1 == item.splits;
      *flag = last ? 1 : 0;
      if (last) done_[item.group] = 0;
    }
    ComputeBarrier();
    return *flag != 0;
  }

  const DecodeRegionParams& p_;
  const DecodeRegionPlan& plan_;
  int head_dim_;
  int num_tokens_;
  float* queries_;  // [kRegionHeads][head_dim]
  Cache* new_key_;
  Cache* new_value_;
  float* sums_;
  RegionItem* item_;  // the open one
  int* blocks_;       // [kHeldBlocks] of its keys, from the first on
  float* cos_;        // [rotary_dim / 2]
  float* sin_;
  int num_items_;
  int open_ = -1;
  int* done_;
  float* partials_;
  int warp_;
  int lane_;
};

}  // namespace trireme::cuda
