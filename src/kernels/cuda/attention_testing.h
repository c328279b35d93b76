// SPDX-License-Identifier: Apache-2.0
// Sequences over a poisoned paged cache in device memory, and what attention should make of them,
// computed in float on the host. For GPU tests. Host code, C++20.
#pragma once

#include <cuda_fp8.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/cuda/paged_attention.h"
#include "kernels/cuda/testing.h"

namespace trireme::cuda {

struct AttentionShape {
  Element dtype = Element::kBFloat16;
  Element cache = Element::kBFloat16;
  int num_heads = 8;
  int num_kv_heads = 2;
  int head_dim = 128;
  int block_size = 64;
  RotaryStyle style = RotaryStyle::kNeox;
  int rotary_dim = 128;
  int window = 0;
  float soft_cap = 0.0f;
  bool alibi = false;
  float k_scale = 1.0f;
  float v_scale = 1.0f;
};

struct SequenceSpec {
  int context = 0;  // tokens in the cache before the step
  int query_len = 1;
};

// A 16- or 8-bit number of the device, and back.
inline uint16_t Encode(Element dtype, float x) {
  uint16_t bits = 0;
  if (dtype == Element::kBFloat16) {
    const __nv_bfloat16 y = __float2bfloat16_rn(x);
    std::memcpy(&bits, &y, 2);
  } else if (dtype == Element::kFloat16) {
    const __half y = __float2half_rn(x);
    std::memcpy(&bits, &y, 2);
  } else {
    bits = __nv_cvt_float_to_fp8(x, __NV_SATFINITE, __NV_E4M3);
  }
  return bits;
}
inline float Decode(Element dtype, uint16_t bits) {
  if (dtype == Element::kBFloat16) {
    const uint32_t wide = uint32_t{bits} << 16;
    float x = 0;
    std::memcpy(&x, &wide, 4);
    return x;
  }
  __half_raw raw{};
  raw.x = bits;
  if (dtype == Element::kFloat8E4M3) {
    raw = __nv_cvt_fp8_to_halfraw(static_cast<__nv_fp8_storage_t>(bits), __NV_E4M3);
  }
  return __half2float(__half(raw));
}
inline float Round(Element dtype, float x) { return Decode(dtype, Encode(dtype, x)); }
inline int Bytes(Element dtype) { return dtype == Element::kFloat8E4M3 ? 1 : 2; }

// One step over sequences of given lengths. Layer 1 of two is used; all other cache is NaN.
class AttentionCase {
 public:
  AttentionCase(const AttentionShape& shape, const std::vector<SequenceSpec>& sequences,
                unsigned seed = 1)
      : shape_(shape), sequences_(sequences), random_(seed) {
    LayOut();
    FillCache();
    FillQueries();
  }

  int num_tokens() const { return cu_.back(); }
  int q_width() const { return shape_.num_heads * shape_.head_dim; }
  int qkv_width() const { return (shape_.num_heads + 2 * shape_.num_kv_heads) * shape_.head_dim; }

  // The step's arrays in device memory, of a bucket with room for more tokens and sequences.
  struct Device {
    explicit Device(const AttentionCase& c)
        : counts(std::vector<StepCounts>{
              {c.num_tokens(), static_cast<int>(c.sequences_.size()), 0, c.max_query()}}),
          positions(c.positions_),
          token_seqs(c.token_seqs_),
          cu(c.cu_),
          contexts(c.contexts_),
          tables(c.tables_),
          slopes(c.slopes_),
          cos(c.cos_),
          sin(c.sin_),
          qkv(c.qkv_),
          out(static_cast<size_t>(c.num_tokens() + kSpareRows) * c.q_width()),
          pool(c.pool_) {}
    static constexpr int kSpareRows = 3;
    DeviceArray<StepCounts> counts;
    DeviceArray<int32_t> positions, token_seqs, cu, contexts, tables;
    DeviceArray<float> slopes, cos, sin;
    DeviceArray<uint16_t> qkv, out;
    DeviceArray<unsigned char> pool;
  };

  RopeKvWriteParams Rope(Device& device) const {
    return {.dtype = shape_.dtype,
            .qkv = device.qkv.data(),
            .qkv_stride = qkv_width(),
            .num_heads = shape_.num_heads,
            .style = shape_.style,
            .rotary_dim = shape_.rotary_dim,
            .cos = device.cos.data(),
            .sin = device.sin.data(),
            .step = Step(device),
            .kv = Kv(device),
            .layer = 1};
  }
  PagedAttentionParams Attention(Device& device) const {
    return {.dtype = shape_.dtype,
            .q = device.qkv.data(),
            .q_stride = qkv_width(),
            .num_heads = shape_.num_heads,
            .scale = scale(),
            .window = shape_.window,
            .soft_cap = shape_.soft_cap,
            .alibi_slopes = shape_.alibi ? device.slopes.data() : nullptr,
            .out = device.out.data(),
            .out_stride = q_width(),
            .step = Step(device),
            .kv = Kv(device),
            .layer = 1};
  }

  // The result and, a row at a time, the sum of |p_j v_j|: what rounding is measured against.
  struct Expected {
    std::vector<float> out;
    std::vector<float> magnitude;
  };
  Expected Reference() const {
    Expected expected;
    expected.out.resize(static_cast<size_t>(num_tokens()) * q_width());
    expected.magnitude.resize(expected.out.size());
    const int group = shape_.num_heads / shape_.num_kv_heads;
    for (int seq = 0; seq < static_cast<int>(sequences_.size()); ++seq) {
      for (int kv_head = 0; kv_head < shape_.num_kv_heads; ++kv_head) {
        const std::vector<float> keys = CachedRows(seq, false, kv_head);
        const std::vector<float> values = CachedRows(seq, true, kv_head);
        for (int i = 0; i < sequences_[seq].query_len; ++i) {
          for (int head = kv_head * group; head < (kv_head + 1) * group; ++head) {
            AttendRow(seq, i, head, keys, values, expected);
          }
        }
      }
    }
    return expected;
  }

  // What the cache holds for a token of this step.
  float ExpectedKey(int token, int kv_head, int dim) const {
    return CacheRound(Rotated(token, shape_.num_heads + kv_head, dim), shape_.k_scale);
  }
  float ExpectedValue(int token, int kv_head, int dim) const {
    return CacheRound(Input(token, shape_.num_heads + shape_.num_kv_heads + kv_head, dim),
                      shape_.v_scale);
  }
  float ExpectedQuery(int token, int head, int dim) const { return Rotated(token, head, dim); }

  // Offset in elements of a sequence's key or value in the pool.
  int64_t PoolIndex(int seq, int place, bool value, int kv_head, int dim) const {
    const int64_t block = tables_[static_cast<size_t>(seq) * stride_ + place / shape_.block_size];
    const int64_t head = (int64_t{1} * 2 + (value ? 1 : 0)) * shape_.num_kv_heads + kv_head;
    return ((block * kLayers * 2 * shape_.num_kv_heads + head) * shape_.block_size +
            place % shape_.block_size) *
               shape_.head_dim +
           dim;
  }
  float PoolValue(const std::vector<unsigned char>& pool, int64_t index) const {
    uint16_t bits = 0;
    std::memcpy(&bits, pool.data() + index * Bytes(shape_.cache), Bytes(shape_.cache));
    return Decode(shape_.cache, bits);
  }
  const std::vector<SequenceSpec>& sequences() const { return sequences_; }
  int context_of(int seq) const { return contexts_[seq]; }
  int first_token(int seq) const { return cu_[seq]; }

 private:
  static constexpr int kLayers = 2;

  float scale() const { return 1.0f / std::sqrt(static_cast<float>(shape_.head_dim)); }
  int max_query() const {
    int longest = 1;
    for (const SequenceSpec& s : sequences_) longest = std::max(longest, s.query_len);
    return longest;
  }

  StepView Step(Device& device) const {
    return {.counts = device.counts.data(),
            .positions = device.positions.data(),
            .token_seqs = device.token_seqs.data(),
            .cu_query_lens = device.cu.data(),
            .context_lens = device.contexts.data(),
            .block_tables = device.tables.data(),
            .block_table_stride = stride_,
            .max_tokens = num_tokens() + Device::kSpareRows,
            .max_seqs = static_cast<int>(sequences_.size()) + 2,
            .max_query = max_query(),
            .max_seq_len = stride_ * shape_.block_size};
  }
  KvView Kv(Device& device) const {
    return {.dtype = shape_.cache,
            .pool = device.pool.data(),
            .block_bytes = block_elements() * Bytes(shape_.cache),
            .num_kv_heads = shape_.num_kv_heads,
            .head_dim = shape_.head_dim,
            .block_size = shape_.block_size,
            .k_scale = shape_.k_scale,
            .v_scale = shape_.v_scale};
  }
  int64_t block_elements() const {
    return int64_t{kLayers} * 2 * shape_.num_kv_heads * shape_.block_size * shape_.head_dim;
  }

  // Tables in random order; blocks wholly before the window of every query are absent.
  void LayOut() {
    cu_ = {0};
    int needed = 0;
    stride_ = 1;
    for (const SequenceSpec& s : sequences_) {
      contexts_.push_back(s.context);
      for (int i = 0; i < s.query_len; ++i) {
        positions_.push_back(s.context + i);
        token_seqs_.push_back(static_cast<int32_t>(contexts_.size()) - 1);
      }
      cu_.push_back(cu_.back() + s.query_len);
      const int blocks = (s.context + s.query_len + shape_.block_size - 1) / shape_.block_size;
      stride_ = std::max(stride_, blocks);
      needed += blocks;
    }
    std::vector<int32_t> blocks(static_cast<size_t>(needed) + 3);
    std::iota(blocks.begin(), blocks.end(), 0);
    std::shuffle(blocks.begin(), blocks.end(), random_);
    tables_.assign(sequences_.size() * static_cast<size_t>(stride_), 1 << 28);
    for (size_t seq = 0; seq < sequences_.size(); ++seq) {
      const SequenceSpec& s = sequences_[seq];
      const int first = shape_.window > 0 ? std::max(0, s.context - shape_.window + 1) : 0;
      const int end = (s.context + s.query_len + shape_.block_size - 1) / shape_.block_size;
      for (int b = first / shape_.block_size; b < end; ++b) {
        tables_[seq * stride_ + b] = blocks.back();
        blocks.pop_back();
      }
    }
    pool_.assign(static_cast<size_t>((needed + 3) * block_elements() * Bytes(shape_.cache)), 0xff);
    for (int h = 0; h < shape_.num_heads; ++h) slopes_.push_back(std::exp2(-0.5f * (h + 1)));
    const int half = std::max(1, shape_.rotary_dim / 2);
    for (int position = 0; position < stride_ * shape_.block_size; ++position) {
      for (int j = 0; j < half; ++j) {
        const double angle = position * std::pow(10000.0, -static_cast<double>(j) / half);
        cos_.push_back(static_cast<float>(std::cos(angle)));
        sin_.push_back(static_cast<float>(std::sin(angle)));
      }
    }
  }

  void FillCache() {
    for (int seq = 0; seq < static_cast<int>(sequences_.size()); ++seq) {
      const int first = shape_.window > 0 ? std::max(0, contexts_[seq] - shape_.window + 1) : 0;
      for (int place = first; place < contexts_[seq]; ++place) {
        for (int half = 0; half < 2; ++half) {
          const float cache_scale = half == 1 ? shape_.v_scale : shape_.k_scale;
          for (int head = 0; head < shape_.num_kv_heads; ++head) {
            for (int dim = 0; dim < shape_.head_dim; ++dim) {
              const uint16_t bits = Encode(shape_.cache, normal_(random_) / cache_scale);
              std::memcpy(
                  pool_.data() + PoolIndex(seq, place, half == 1, head, dim) * Bytes(shape_.cache),
                  &bits, Bytes(shape_.cache));
            }
          }
        }
      }
    }
  }
  void FillQueries() {
    qkv_.assign(static_cast<size_t>(num_tokens() + Device::kSpareRows) * qkv_width(), 0xffff);
    for (size_t i = 0; i < static_cast<size_t>(num_tokens()) * qkv_width(); ++i) {
      qkv_[i] = Encode(shape_.dtype, normal_(random_));
    }
  }

  float Input(int token, int head, int dim) const {
    return Decode(shape_.dtype,
                  qkv_[static_cast<size_t>(token) * qkv_width() + head * shape_.head_dim + dim]);
  }
  float Rotated(int token, int head, int dim) const {
    const int half = shape_.style == RotaryStyle::kNone ? 0 : shape_.rotary_dim / 2;
    if (dim >= 2 * half) return Input(token, head, dim);
    const bool neox = shape_.style == RotaryStyle::kNeox;
    const int j = neox ? dim % half : dim / 2;
    const bool second = neox ? dim >= half : dim % 2 == 1;
    const float a = Input(token, head, neox ? j : 2 * j);
    const float b = Input(token, head, neox ? j + half : 2 * j + 1);
    const float c = cos_[static_cast<size_t>(positions_[token]) * half + j];
    const float s = sin_[static_cast<size_t>(positions_[token]) * half + j];
    return Round(shape_.dtype, second ? std::fma(b, c, a * s) : std::fma(a, c, -(b * s)));
  }
  float CacheRound(float x, float cache_scale) const {
    const float inverse = shape_.cache == Element::kFloat8E4M3 ? 1.0f / cache_scale : 1.0f;
    return Round(shape_.cache, x * inverse);
  }

  // Key or value of a place, whether of the cache or of this step.
  float Cached(int seq, int place, bool value, int kv_head, int dim) const {
    const float stored =
        place < contexts_[seq]
            ? PoolValue(pool_, PoolIndex(seq, place, value, kv_head, dim))
            : (value ? ExpectedValue(cu_[seq] + place - contexts_[seq], kv_head, dim)
                     : ExpectedKey(cu_[seq] + place - contexts_[seq], kv_head, dim));
    return stored * (value ? shape_.v_scale : shape_.k_scale);
  }

  // [place][head_dim] from the first key that any query sees on.
  std::vector<float> CachedRows(int seq, bool value, int kv_head) const {
    const int length = contexts_[seq] + sequences_[seq].query_len;
    std::vector<float> rows(static_cast<size_t>(length) * shape_.head_dim);
    const int first = shape_.window > 0 ? std::max(0, contexts_[seq] - shape_.window + 1) : 0;
    for (int place = first; place < length; ++place) {
      for (int dim = 0; dim < shape_.head_dim; ++dim) {
        rows[static_cast<size_t>(place) * shape_.head_dim + dim] =
            Cached(seq, place, value, kv_head, dim);
      }
    }
    return rows;
  }

  void AttendRow(int seq, int i, int head, const std::vector<float>& keys,
                 const std::vector<float>& values, Expected& expected) const {
    const int token = cu_[seq] + i;
    const int place = contexts_[seq] + i;
    const int first = shape_.window > 0 ? std::max(0, place - shape_.window + 1) : 0;
    const int head_dim = shape_.head_dim;
    std::vector<float> q(static_cast<size_t>(head_dim));
    for (int dim = 0; dim < head_dim; ++dim) q[dim] = Rotated(token, head, dim);
    std::vector<double> weights;
    double sum = 0;
    for (int j = first; j <= place; ++j) {
      const float* key = keys.data() + static_cast<size_t>(j) * head_dim;
      double s = 0;
      for (int dim = 0; dim < head_dim; ++dim) s += double{q[dim]} * key[dim];
      s *= scale();
      if (shape_.soft_cap > 0) s = shape_.soft_cap * std::tanh(s / shape_.soft_cap);
      if (shape_.alibi) s += double{slopes_[head]} * (j - place);
      weights.push_back(std::exp(s));
      sum += weights.back();
    }
    std::vector<double> x(static_cast<size_t>(head_dim));
    std::vector<double> magnitude(static_cast<size_t>(head_dim));
    for (int j = first; j <= place; ++j) {
      const float* value = values.data() + static_cast<size_t>(j) * head_dim;
      for (int dim = 0; dim < head_dim; ++dim) {
        const double part = weights[j - first] / sum * value[dim];
        x[dim] += part;
        magnitude[dim] += std::fabs(part);
      }
    }
    const size_t row = static_cast<size_t>(token) * q_width() + head * head_dim;
    for (int dim = 0; dim < head_dim; ++dim) {
      expected.out[row + dim] = static_cast<float>(x[dim]);
      expected.magnitude[row + dim] = static_cast<float>(magnitude[dim]);
    }
  }

  AttentionShape shape_;
  std::vector<SequenceSpec> sequences_;
  std::mt19937 random_;
  std::normal_distribution<float> normal_;
  int stride_ = 1;
  std::vector<int32_t> cu_, contexts_, positions_, token_seqs_, tables_;
  std::vector<float> slopes_, cos_, sin_;
  std::vector<uint16_t> qkv_;
  std::vector<unsigned char> pool_;
};

}  // namespace trireme::cuda
