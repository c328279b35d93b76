// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <vector>

#include "base/check.h"
#include "kernels/cpu_variants.h"
#include "kernels/paged_attention.h"
#include "kernels/step_access.h"
#include "tensor/float_formats.h"

namespace trireme::kernels {
namespace {

// Values side by side: a number the compiler knows lets it use vectors, and every sum keeps its order.
constexpr int kLanes = 16;

// sums[lane] += the products of q and one dimension after the other of a group of keys.
template <typename T>
void AddProducts(const float* q, const T* keys, int head_dim, int group, float* sums) {
  if (group == kLanes) {
    for (int i = 0; i < head_dim; ++i) {
      for (int lane = 0; lane < kLanes; ++lane) {
        sums[lane] += q[i] * ToFloat(keys[i * kLanes + lane]);
      }
    }
    return;
  }
  for (int i = 0; i < head_dim; ++i) {
    for (int lane = 0; lane < group; ++lane) sums[lane] += q[i] * ToFloat(keys[i * group + lane]);
  }
}

template <typename T>
void AddWeighted(float weight, const T* values, int head_dim, float* result) {
  int i = 0;
  for (; i + kLanes <= head_dim; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) {
      result[i + lane] += weight * ToFloat(values[i + lane]);
    }
  }
  for (; i < head_dim; ++i) result[i] += weight * ToFloat(values[i]);
}

// One query of one head, at place `place` of sequence `seq`.
template <typename T>
void Attend(const PagedAttentionParams& p, int seq, int64_t place, int head, const float* q,
            std::vector<float>& scores, float* out) {
  const KvLayout& layout = p.kv.layout;
  const int kv_head = head / (p.num_heads / layout.num_kv_heads);
  const int64_t first = p.window > 0 ? std::max<int64_t>(0, place - p.window + 1) : 0;
  const int group = layout.key_group();
  scores.resize(static_cast<size_t>(place - first + 1));
  float max = -INFINITY;
  for (int64_t begin = first / group * group; begin <= place; begin += group) {
    const CacheSlot slot = SlotOf(p.step, layout, seq, begin);
    const auto* keys =
        reinterpret_cast<const T*>(p.kv.pool + layout.Offset(slot.block, p.layer, false, kv_head));
    float sums[kLanes] = {};
    AddProducts(q, keys + layout.KeyIndex(slot.token, 0), layout.head_dim, group, sums);
    for (int64_t j = std::max(begin, first); j < begin + group && j <= place; ++j) {
      float s = sums[j - begin] * p.scale;
      if (p.soft_cap > 0.0f) s = p.soft_cap * std::tanh(s / p.soft_cap);
      if (p.alibi_slopes) s += p.alibi_slopes[head] * static_cast<float>(j - place);
      scores[static_cast<size_t>(j - first)] = s;
      max = std::max(max, s);
    }
  }
  float result[kMaxHeadDim] = {};
  float sum = 0.0f;
  for (int64_t j = first; j <= place; ++j) {
    const CacheSlot slot = SlotOf(p.step, layout, seq, j);
    const auto* values =
        reinterpret_cast<const T*>(p.kv.pool + layout.Offset(slot.block, p.layer, true, kv_head));
    const float weight = std::exp(scores[static_cast<size_t>(j - first)] - max);
    sum += weight;
    AddWeighted(weight, values + layout.ValueIndex(slot.token, 0), layout.head_dim, result);
  }
  for (int i = 0; i < layout.head_dim; ++i) out[i] = result[i] / sum;
}

using AttendFn = decltype(&Attend<float>);

AttendFn AttendFor(DType dtype) {
  switch (dtype) {
    case DType::kFloat32: return Attend<float>;
    case DType::kFloat16: return Attend<float16_t>;
    case DType::kBFloat16: return Attend<bfloat16_t>;
    default: TRIREME_CHECK(!"a KV cache is float32, float16 or bfloat16");
  }
  return nullptr;
}

}  // namespace

void PagedAttentionTokensGeneric(const PagedAttentionParams& p, int64_t begin, int64_t end) {
  const int head_dim = p.kv.layout.head_dim;
  const AttendFn attend = AttendFor(p.kv.layout.dtype);
  std::vector<float> scores;
  for (int64_t t = begin; t < end; ++t) {
    const int seq = SequenceOfToken(p.step, t);
    const int64_t place = p.step.context_lens[seq] + (t - p.step.cu_query_lens[seq]);
    for (int head = 0; head < p.num_heads; ++head) {
      const int64_t offset = int64_t{head} * head_dim;
      attend(p, seq, place, head, p.q + t * p.q_stride + offset, scores,
             p.out + t * p.out_stride + offset);
    }
  }
}

void PagedAttentionReference(const PagedAttentionParams& params) {
  TRIREME_CHECK_LE(params.kv.layout.head_dim, kMaxHeadDim);
  TRIREME_CHECK_EQ(params.num_heads % params.kv.layout.num_kv_heads, 0);
  PagedAttentionTokensGeneric(params, 0, params.step.num_tokens);
}

}  // namespace trireme::kernels
