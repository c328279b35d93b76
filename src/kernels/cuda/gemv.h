// SPDX-License-Identifier: Apache-2.0
// Linear layers of at most kMaxGemvRows rows in one launch: norm, product, gate or bias and residual.
// The formula and operands are those of kernels/cuda/linear.h; C++17.
//
// W is streamed once, through shared memory, in tiles of 16 rows; the warps of a block split K and their
// partial sums are added in the order of the warps: deterministic, the bits depend on `in`, num_rows,
// the configuration and the multiprocessor count only. Products of bfloat16, float16 or e4m3 values are
// exact, accumulation is float32 on the tensor cores. Workspace: none. sm_90.
//
// As a dependent launch, a block fills its load ring (and asks the L2 for l2_prefetch_bytes more)
// before it waits for its predecessor, so that the weight stream runs on across kernel borders. Its
// successor may start when its own last loads are under way; a block's shared memory lets no second
// block of a Gemv on its multiprocessor.
//
// Bound by bandwidth. One row, BF16, alone, of 4.31 TB/s: 128256 x 4096 104 % (the limit is of one
// long reduction), 28672 x 4096 98 %, 4096 x 14336 89 %, 4096 x 4096 67 % (H200, 2026-11-21).
#pragma once

#include "device/cuda/launch.h"
#include "kernels/cuda/activation.h"
#include "kernels/cuda/types.h"

namespace trireme::cuda {

constexpr int kMaxGemvRows = 8;

struct GemvParams {
  Element dtype = Element::kBFloat16;   // T
  Element weight = Element::kBFloat16;  // T or e4m3
  Element x_dtype = Element::kBFloat16;
  Element y_dtype = Element::kBFloat16;
  int out_features = 0;
  int in_features = 0;
  const void* w = nullptr;
  const void* x = nullptr;
  int64_t x_stride = 0;
  const void* gamma = nullptr;  // null: no norm
  bool gamma_plus_one = false;
  float epsilon = 1e-5f;
  float x_scale = 1.0f;
  float alpha = 1.0f;
  const void* bias = nullptr;      // null: none
  const void* residual = nullptr;  // null: none
  int64_t residual_stride = 0;
  bool gated = false;
  Activation activation = Activation::kSilu;
  void* y = nullptr;
  int64_t y_stride = 0;
  float y_scale = 1.0f;
  int num_rows = 0;
  const int32_t* num_tokens = nullptr;  // device
};

struct GemvConfig {
  int warps = 16;  // of a block, with a ring of `depth` steps of 2 KB a warp: (16, 2), (16, 3)
  int depth = 2;   // or (8, 5)
  int l2_prefetch_bytes = 0;  // a block
};

// Whether Gemv takes this problem; pointers, strides and row counts apart.
bool SupportsGemv(const GemvParams& params, const GemvConfig& config, int num_sms);

// cudaErrorInvalidValue for what SupportsGemv does not take.
cudaError_t Gemv(const GemvParams& params, const GemvConfig& config, LaunchContext& context);

}  // namespace trireme::cuda
