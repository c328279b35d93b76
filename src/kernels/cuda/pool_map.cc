// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/pool_map.h"

#include <cuda_runtime_api.h>

namespace trireme::cuda {
namespace {

using EncodeTiled = decltype(&cuTensorMapEncodeTiled);

EncodeTiled FindEncodeTiled() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
  const cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function,
                                                             12000, cudaEnableDefault, &result);
  const bool found = error == cudaSuccess && result == cudaDriverEntryPointSuccess;
  return found ? reinterpret_cast<EncodeTiled>(function) : nullptr;
}

}  // namespace

cudaError_t MakePoolMap(const KvView& kv, int box_rows, CUtensorMap& map) {
  static const EncodeTiled encode = FindEncodeTiled();
  if (encode == nullptr) return cudaErrorNotSupported;
  // The pool's true end is not known here; block ids keep every box inside.
  constexpr cuuint64_t kRows = 0x7fffffff;
  const bool bytes = kv.dtype == Element::kFloat8E4M3;
  const cuuint64_t sizes[2] = {static_cast<cuuint64_t>(kv.head_dim), kRows};
  const cuuint64_t strides[1] = {static_cast<cuuint64_t>(kv.head_dim) * (bytes ? 1 : 2)};
  const cuuint32_t box[2] = {bytes ? static_cast<cuuint32_t>(kv.head_dim) : 64,
                             static_cast<cuuint32_t>(box_rows)};
  const cuuint32_t steps[2] = {1, 1};
  const CUtensorMapDataType type = bytes ? CU_TENSOR_MAP_DATA_TYPE_UINT8
                                   : kv.dtype == Element::kBFloat16
                                       ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
                                       : CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
  const CUresult result =
      encode(&map, type, 2, kv.pool, sizes, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
             bytes ? CU_TENSOR_MAP_SWIZZLE_NONE : CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

}  // namespace trireme::cuda
