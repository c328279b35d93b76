// SPDX-License-Identifier: Apache-2.0
// All decoder layers of a step of few decoding tokens in one launch. C++17; thread rule: LaunchContext.
//
//   for each layer:  qkv = Linear(RmsNorm(x));  attention over the paged cache, as RopePagedAttention
//                    h = x + Linear(attention);  a = act(gate(RmsNorm(h))) * up(RmsNorm(h))
//                    x' = h + Linear(a)
//
// | operand           | dtype     | shape                                 | notes                      |
// |-------------------|-----------|---------------------------------------|----------------------------|
// | layers            | struct    | [num_layers]                          | device memory              |
// | .w                | T or e4m3 | [out, in], row-major                  | gate_up: activated branch  |
// |                   |           |                                       | first                      |
// | .gamma            | T         | [in] or null                          | null: no norm              |
// | .bias             | T         | [out] or null                         | not of gate_up             |
// | .x, .residual, .y | T         | [num_rows, in], [num_rows, out], same | no gaps between rows; y may|
// |                   |           |                                       | be residual, not x         |
// | gate_up.y, down.x | e4m3      | as above                              | instead of T where         |
// |                   |           |                                       | `activated` says so        |
// | cos, sin          | float32   | [positions, rotary_dim / 2]           | rope_kv_write.h            |
// | kv                | T or e4m3 | the pool                              | this step's k, v written   |
// | workspace         | bytes     | DecodeRegionWorkspaceBytes            | 256-byte aligned, zeroed   |
// |                   |           |                                       | once, then left to the     |
// |                   |           |                                       | launches of one stream     |
//
// T: bfloat16 or float16. Rounding points are those of Gemv and RopePagedAttention, but that
// probabilities stay in float32; sums run in another order. Deterministic: the bits depend on the
// operands, the lengths, num_rows and the number of multiprocessors. Every sequence has one token.
// Rows beyond the count hold unspecified values. sm_90.
//
// One block a multiprocessor, all resident at once. A producer warp streams the block's share of
// every weight through a ring in shared memory, in the order of use and ahead of it: weights do not
// depend on activations, so the stream runs on while the other warps wait for the whole grid between
// dependent products. Bound by reading the weights; docs/performance.md has the figures.
#pragma once

#include "device/cuda/launch.h"
#include "kernels/cuda/activation.h"
#include "kernels/cuda/rope_kv_write.h"
#include "kernels/cuda/types.h"

namespace trireme::cuda {

constexpr int kMaxRegionRows = 4;

struct RegionLinear {
  const void* w = nullptr;
  const void* gamma = nullptr;
  const void* bias = nullptr;
  const void* x = nullptr;
  const void* residual = nullptr;
  void* y = nullptr;
  float epsilon = 1e-5f;
  float x_scale = 1.0f;
  float alpha = 1.0f;    // x_scale * w_scale of e4m3 weights
  float y_scale = 1.0f;  // of an e4m3 y
};

struct RegionLayer {
  RegionLinear qkv;
  RegionLinear o;
  RegionLinear gate_up;
  RegionLinear down;
  int cache_layer = 0;
  float kv_scale = 1.0f;  // of keys and values
};

struct DecodeRegionParams {
  Element dtype = Element::kBFloat16;   // T
  Element weight = Element::kBFloat16;  // T or e4m3
  int num_layers = 0;
  int hidden_size = 0;
  int intermediate_size = 0;
  int num_heads = 0;  // kv heads and head_dim are the cache's
  bool gamma_plus_one = false;
  Activation activation = Activation::kSilu;
  Element activated = Element::kBFloat16;  // T; or e4m3, with e4m3 weights
  RotaryStyle style = RotaryStyle::kNone;
  int rotary_dim = 0;
  const float* cos = nullptr;
  const float* sin = nullptr;
  float attention_scale = 1.0f;
  const RegionLayer* layers = nullptr;  // device
  StepView step;
  KvView kv;  // scales: the layers'
  void* workspace = nullptr;
  int num_rows = 0;  // 1, 2 or kMaxRegionRows
};

struct DecodeRegionConfig {
  int slot_bytes = 8192;     // of the ring; a multiple of 1024
  int chunks_in_flight = 6;  // copies of slots that are under way at once
};

// Whether DecodeRegion takes this problem; pointers apart.
bool SupportsDecodeRegion(const DecodeRegionParams& params, const DecodeRegionConfig& config,
                          int num_sms);

// For any num_rows.
int64_t DecodeRegionWorkspaceBytes(const DecodeRegionParams& params, int num_sms);

// cudaErrorInvalidValue for what SupportsDecodeRegion does not take.
cudaError_t DecodeRegion(const DecodeRegionParams& params, const DecodeRegionConfig& config,
                         LaunchContext& context);

}  // namespace trireme::cuda
