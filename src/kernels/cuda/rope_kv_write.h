// SPDX-License-Identifier: Apache-2.0
// Rotary embedding of q and k in place of the packed projections, and the write of k and v into the
// paged cache, for the first counts->num_tokens rows.
//
// | operand  | dtype    | shape                                                | notes                 |
// |----------|----------|------------------------------------------------------|-----------------------|
// | qkv      | T        | [max_tokens, (num_heads + 2 num_kv_heads) * head_dim]| Q, K, V in turn; Q is |
// |          |          |                                                      | rotated in place      |
// | cos, sin | float32  | [positions, rotary_dim / 2]                          | kernels/rotary_table.h|
// | kv       | T or FP8 | the pool                                             | rounded; FP8: / scale |
//
// T: bfloat16 or float16. A pair (a, b) at table index j becomes (a cos - b sin, b cos + a sin) in
// float32. neox: a, b = elements j and j + rotary_dim / 2 of the head; gptj: 2 j and 2 j + 1. The
// table row is step.positions[t]; the cache slot is the token's place in its sequence, through the
// block table. Elements from rotary_dim on are copied. K and V of qkv are left as they are.
// head_dim a multiple of 8; qkv 16-byte aligned, qkv_stride a multiple of 8; rotary_dim even.
// FP8 saturates at 448. Deterministic. Bound by bandwidth. sm_80 up.
#pragma once

#include "device/cuda/launch.h"
#include "kernels/cuda/types.h"

namespace trireme::cuda {

enum class RotaryStyle : uint8_t { kNone, kNeox, kGptj };

struct RopeKvWriteParams {
  Element dtype = Element::kBFloat16;
  void* qkv = nullptr;
  int64_t qkv_stride = 0;  // elements
  int num_heads = 0;       // of q; kv heads and head_dim are the cache's
  RotaryStyle style = RotaryStyle::kNone;
  int rotary_dim = 0;
  const float* cos = nullptr;
  const float* sin = nullptr;
  StepView step;
  KvView kv;
  int layer = 0;
};

// cudaErrorInvalidValue for operands outside the table above.
cudaError_t RopeKvWrite(const RopeKvWriteParams& params, LaunchContext& context);

}  // namespace trireme::cuda
