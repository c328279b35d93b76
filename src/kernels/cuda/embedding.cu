// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/embedding.h"

#include "device/cuda/launch.cuh"
#include "kernels/cuda/vector.cuh"

namespace trireme::cuda {
namespace {

constexpr int kMaxThreads = 256;

// One block a token.
template <typename T>
__global__ void EmbeddingKernel(EmbeddingParams params) {
  cudaGridDependencySynchronize();
  const int token = static_cast<int>(blockIdx.x);
  if (token >= *params.num_tokens) return;
  const int32_t id = params.ids[token];
  const bool known = id >= 0 && id < params.vocab_size;
  const T* row = static_cast<const T*>(params.table) + int64_t{known ? id : 0} * params.hidden_size;
  T* y = static_cast<T*>(params.y) + int64_t{token} * params.hidden_size;
  for (int i = static_cast<int>(threadIdx.x) * 8; i < params.hidden_size;
       i += static_cast<int>(blockDim.x) * 8) {
    Vector8<T> vector = Load8(row + i);
    for (T& value : vector.values) {
      value = FromFloat<T>(known ? ToFloat(value) * params.scale : 0.0f);
    }
    Store8(y + i, vector);
  }
}

}  // namespace

cudaError_t Embedding(const EmbeddingParams& params, LaunchContext& context) {
  if (params.hidden_size <= 0 || params.hidden_size % 8 != 0) return cudaErrorInvalidValue;
  const int threads = params.hidden_size / 8 < kMaxThreads ? params.hidden_size / 8 : kMaxThreads;
  const LaunchShape shape{.grid = dim3(static_cast<unsigned>(params.max_tokens)),
                          .block = dim3(static_cast<unsigned>(threads))};
  switch (params.dtype) {
    case Element::kBFloat16:
      return Launch(context, "Embedding", shape, EmbeddingKernel<__nv_bfloat16>, params);
    case Element::kFloat16:
      return Launch(context, "Embedding", shape, EmbeddingKernel<__half>, params);
    default: return cudaErrorInvalidValue;
  }
}

}  // namespace trireme::cuda
