// SPDX-License-Identifier: Apache-2.0
// Embedding: y[t] = scale * table[token_ids[t]]. Engine thread only.
//
// | operand   | dtype                      | shape                     | notes                       |
// |-----------|----------------------------|---------------------------|-----------------------------|
// | token_ids | int32                      | [num_tokens]              | each in [0, vocab_size)     |
// | table     | float32, float16, bfloat16 | [vocab_size, hidden_size] | contiguous                  |
// | y         | float32                    | [num_tokens, hidden_size] | row stride y_stride         |
//
// Exact but for the rounding of the product with `scale`. Bound by memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu_context.h"
#include "tensor/dtype.h"

namespace trireme::kernels {

struct EmbeddingParams {
  const int32_t* token_ids = nullptr;
  DType table_dtype = DType::kFloat32;
  const std::byte* table = nullptr;
  float scale = 1.0f;
  float* y = nullptr;
  int64_t y_stride = 0;
  int64_t num_tokens = 0;
  int64_t hidden_size = 0;
};

void Embedding(const EmbeddingParams& params, CpuContext& context);
void EmbeddingReference(const EmbeddingParams& params);

}  // namespace trireme::kernels
