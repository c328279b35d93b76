// SPDX-License-Identifier: Apache-2.0
// Rotary embedding of q and k, and the write of k and v into the paged cache. Engine thread only.
//
// | operand  | dtype         | shape                                              | notes            |
// |----------|---------------|----------------------------------------------------|------------------|
// | qkv      | float32       | [num_tokens, (num_heads + 2 num_kv_heads) head_dim]| Q, K, V in turn  |
// | cos, sin | float32       | [max_position, rotary_dim / 2]                     | a RotaryTable    |
// | q        | float32       | [num_tokens, num_heads * head_dim]                 | may be qkv's Q   |
// | kv       | layout.dtype  | the pool                                           | k, v rounded     |
//
// A pair (a, b) at table index j becomes (a cos - b sin, b cos + a sin), each product rounded to
// float32. neox: a, b = elements j and j + rotary_dim / 2 of the head; gptj: 2 j and 2 j + 1. The
// table row is step.positions[t]; the cache slot is the token's place in its sequence. Elements
// from rotary_dim on are copied. Every variant agrees bit for bit. Bound by memory.
#pragma once

#include <cstdint>

#include "kernels/cpu_context.h"
#include "kernels/step_view.h"

namespace trireme::kernels {

enum class RotaryStyle { kNone, kNeox, kGptj };

struct RopeKvWriteParams {
  const float* qkv = nullptr;
  int64_t qkv_stride = 0;
  int num_heads = 0;  // of q; kv heads and head_dim are the cache's
  RotaryStyle style = RotaryStyle::kNone;
  int rotary_dim = 0;  // even, at most head_dim
  const float* cos = nullptr;
  const float* sin = nullptr;
  float* q = nullptr;
  int64_t q_stride = 0;
  StepView step;
  KvCacheView kv;
  int layer = 0;
};

void RopeKvWrite(const RopeKvWriteParams& params, CpuContext& context);
void RopeKvWriteReference(const RopeKvWriteParams& params);

}  // namespace trireme::kernels
