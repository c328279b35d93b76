// SPDX-License-Identifier: Apache-2.0
// Table look-up: y[t] = T(table[ids[t]] * scale), for the first *num_tokens rows.
//
// | operand | dtype | shape                     | notes                                            |
// |---------|-------|---------------------------|--------------------------------------------------|
// | table   | T     | [vocab_size, hidden_size] | 16-byte aligned                                  |
// | ids     | int32 | [max_tokens]              | outside [0, vocab_size): a row of zeros          |
// | y       | T     | [max_tokens, hidden_size] |                                                  |
//
// T: bfloat16 or float16; hidden_size a multiple of 8. Deterministic. Bound by bandwidth. sm_80 up.
#pragma once

#include "device/cuda/launch.h"
#include "kernels/cuda/types.h"

namespace trireme::cuda {

struct EmbeddingParams {
  Element dtype = Element::kBFloat16;
  const void* table = nullptr;
  const int32_t* ids = nullptr;
  void* y = nullptr;
  int64_t vocab_size = 0;
  int hidden_size = 0;
  float scale = 1.0f;
  int max_tokens = 0;                   // rows of the bucket
  const int32_t* num_tokens = nullptr;  // device
};

// cudaErrorInvalidValue for operands outside the table above.
cudaError_t Embedding(const EmbeddingParams& params, LaunchContext& context);

}  // namespace trireme::cuda
