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

float LoadElement(const std::byte* head, DType dtype, int64_t index) {
  switch (dtype) {
    case DType::kFloat32: return reinterpret_cast<const float*>(head)[index];
    case DType::kFloat16: return ToFloat(reinterpret_cast<const float16_t*>(head)[index]);
    case DType::kBFloat16: return ToFloat(reinterpret_cast<const bfloat16_t*>(head)[index]);
    default: TRIREME_CHECK(!"a KV cache is float32, float16 or bfloat16");
  }
  return 0.0f;
}

// One query of one head, at place `place` of sequence `seq`.
void Attend(const PagedAttentionParams& p, int seq, int64_t place, int head, const float* q,
            std::vector<float>& scores, float* out) {
  const KvLayout& layout = p.kv.layout;
  const int kv_head = head / (p.num_heads / layout.num_kv_heads);
  const int64_t first = p.window > 0 ? std::max<int64_t>(0, place - p.window + 1) : 0;
  scores.resize(static_cast<size_t>(place - first + 1));
  float max = -INFINITY;
  for (int64_t j = first; j <= place; ++j) {
    const CacheSlot slot = SlotOf(p.step, layout, seq, j);
    const std::byte* keys = p.kv.pool + layout.Offset(slot.block, p.layer, false, kv_head);
    float s = 0.0f;
    for (int i = 0; i < layout.head_dim; ++i) {
      s += q[i] * LoadElement(keys, layout.dtype, layout.KeyIndex(slot.token, i));
    }
    s *= p.scale;
    if (p.soft_cap > 0.0f) s = p.soft_cap * std::tanh(s / p.soft_cap);
    if (p.alibi_slopes) s += p.alibi_slopes[head] * static_cast<float>(j - place);
    scores[static_cast<size_t>(j - first)] = s;
    max = std::max(max, s);
  }
  float result[kMaxHeadDim] = {};
  float sum = 0.0f;
  for (int64_t j = first; j <= place; ++j) {
    const CacheSlot slot = SlotOf(p.step, layout, seq, j);
    const std::byte* values = p.kv.pool + layout.Offset(slot.block, p.layer, true, kv_head);
    const float weight = std::exp(scores[static_cast<size_t>(j - first)] - max);
    sum += weight;
    for (int i = 0; i < layout.head_dim; ++i) {
      result[i] += weight * LoadElement(values, layout.dtype, layout.ValueIndex(slot.token, i));
    }
  }
  for (int i = 0; i < layout.head_dim; ++i) out[i] = result[i] / sum;
}

}  // namespace

void PagedAttentionTokensGeneric(const PagedAttentionParams& p, int64_t begin, int64_t end) {
  const int head_dim = p.kv.layout.head_dim;
  std::vector<float> scores;
  for (int64_t t = begin; t < end; ++t) {
    const int seq = SequenceOfToken(p.step, t);
    const int64_t place = p.step.context_lens[seq] + (t - p.step.cu_query_lens[seq]);
    for (int head = 0; head < p.num_heads; ++head) {
      const int64_t offset = int64_t{head} * head_dim;
      Attend(p, seq, place, head, p.q + t * p.q_stride + offset, scores,
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
