// SPDX-License-Identifier: Apache-2.0
#include "base/check.h"
#include "kernels/cpu_variants.h"
#include "kernels/rope_kv_write.h"
#include "kernels/step_access.h"
#include "tensor/float_formats.h"

namespace trireme::kernels {
namespace {

void Rotate(const RopeKvWriteParams& p, int64_t position, const float* x, float* y) {
  const int half = p.style == RotaryStyle::kNone ? 0 : p.rotary_dim / 2;
  const float* cos = p.cos + position * half;
  const float* sin = p.sin + position * half;
  for (int j = 0; j < half; ++j) {
    const int first = p.style == RotaryStyle::kNeox ? j : 2 * j;
    const int second = p.style == RotaryStyle::kNeox ? j + half : 2 * j + 1;
    const float a = x[first];
    const float b = x[second];
    y[first] = a * cos[j] - b * sin[j];
    y[second] = b * cos[j] + a * sin[j];
  }
  for (int i = 2 * half; i < p.kv.layout.head_dim; ++i) y[i] = x[i];
}

void StoreElement(std::byte* head, DType dtype, int64_t index, float value) {
  switch (dtype) {
    case DType::kFloat32: reinterpret_cast<float*>(head)[index] = value; return;
    case DType::kFloat16: reinterpret_cast<float16_t*>(head)[index] = ToFloat16(value); return;
    case DType::kBFloat16: reinterpret_cast<bfloat16_t*>(head)[index] = ToBFloat16(value); return;
    default: TRIREME_CHECK(!"a KV cache is float32, float16 or bfloat16");
  }
}

}  // namespace

void RopeKvWriteTokensGeneric(const RopeKvWriteParams& p, int64_t begin, int64_t end) {
  const KvLayout& layout = p.kv.layout;
  const int head_dim = layout.head_dim;
  for (int64_t t = begin; t < end; ++t) {
    const CacheSlot slot = SlotOfToken(p.step, layout, t);
    const int64_t position = p.style == RotaryStyle::kNone ? 0 : p.step.positions[t];
    const float* q = p.qkv + t * p.qkv_stride;
    const float* k = q + int64_t{p.num_heads} * head_dim;
    const float* v = k + int64_t{layout.num_kv_heads} * head_dim;
    for (int head = 0; head < p.num_heads; ++head) {
      Rotate(p, position, q + head * head_dim, p.q + t * p.q_stride + head * head_dim);
    }
    for (int head = 0; head < layout.num_kv_heads; ++head) {
      float rotated[kMaxHeadDim];
      Rotate(p, position, k + head * head_dim, rotated);
      std::byte* keys = p.kv.pool + layout.Offset(slot.block, p.layer, false, head);
      std::byte* values = p.kv.pool + layout.Offset(slot.block, p.layer, true, head);
      for (int i = 0; i < head_dim; ++i) {
        StoreElement(keys, layout.dtype, layout.KeyIndex(slot.token, i), rotated[i]);
        StoreElement(values, layout.dtype, layout.ValueIndex(slot.token, i),
                     v[head * head_dim + i]);
      }
    }
  }
}

void RopeKvWriteReference(const RopeKvWriteParams& params) {
  TRIREME_CHECK_LE(params.kv.layout.head_dim, kMaxHeadDim);
  RopeKvWriteTokensGeneric(params, 0, params.step.num_tokens);
}

}  // namespace trireme::kernels
