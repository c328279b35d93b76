// SPDX-License-Identifier: Apache-2.0
#include "base/check.h"
#include "kernels/embedding.h"
#include "tensor/float_formats.h"

namespace trireme::kernels {
namespace {

template <typename T>
void Rows(const EmbeddingParams& params) {
  const T* table = reinterpret_cast<const T*>(params.table);
  for (int64_t t = 0; t < params.num_tokens; ++t) {
    const T* row = table + params.token_ids[t] * params.hidden_size;
    float* y = params.y + t * params.y_stride;
    for (int64_t i = 0; i < params.hidden_size; ++i) y[i] = ToFloat(row[i]) * params.scale;
  }
}

}  // namespace

void EmbeddingReference(const EmbeddingParams& params) {
  switch (params.table_dtype) {
    case DType::kFloat32: return Rows<float>(params);
    case DType::kFloat16: return Rows<float16_t>(params);
    case DType::kBFloat16: return Rows<bfloat16_t>(params);
    default: TRIREME_CHECK(!"an embedding table is float32, float16 or bfloat16");
  }
}

}  // namespace trireme::kernels
