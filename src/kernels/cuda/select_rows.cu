// SPDX-License-Identifier: Apache-2.0
#include "device/cuda/launch.cuh"
#include "kernels/cuda/rows.cuh"
#include "kernels/cuda/select_rows.h"

namespace trireme::cuda {
namespace {

constexpr int kMaxThreads = 256;

// One block a row.
template <typename T>
__global__ void SelectRowsKernel(const __grid_constant__ SelectRowsParams p) {
  cudaTriggerProgrammaticLaunchCompletion();
  cudaGridDependencySynchronize();
  const int64_t row = blockIdx.x;
  if (row >= *p.num_rows) return;
  const int64_t source = int64_t{p.rows[row]} + p.row_offset;
  const bool known = source >= 0 && source < p.num_x_rows;
  const T* x = static_cast<const T*>(p.x) + (known ? source : 0) * p.x_stride;
  const T* base = p.base ? static_cast<const T*>(p.base) + row * p.base_stride : nullptr;
  T* y = static_cast<T*>(p.y) + row * p.y_stride;
  const int step = static_cast<int>(blockDim.x) * 8;
  for (int i = static_cast<int>(threadIdx.x) * 8; i < p.size; i += step) {
    float values[8] = {};
    if (known) LoadFloats8(x + i, values);
    if (base) {
      float other[8];
      LoadFloats8(base + i, other);
#pragma unroll
      for (int j = 0; j < 8; ++j) values[j] += other[j];
    }
    StoreFloats8(y + i, values);
  }
}

}  // namespace

cudaError_t SelectRows(const SelectRowsParams& p, LaunchContext& context) {
  if (p.size <= 0 || p.size % 8 != 0 || p.max_rows <= 0 || p.num_x_rows <= 0 ||
      p.x_stride % 8 != 0 || p.base_stride % 8 != 0 || p.y_stride % 8 != 0) {
    return cudaErrorInvalidValue;
  }
  const int threads = p.size / 8 < kMaxThreads ? p.size / 8 : kMaxThreads;
  const LaunchShape shape{.grid = dim3(static_cast<unsigned>(p.max_rows)),
                          .block = dim3(static_cast<unsigned>(threads))};
  return DispatchHalf(p.dtype, [&](auto t) {
    return Launch(context, "SelectRows", shape, SelectRowsKernel<typename decltype(t)::Type>, p);
  });
}

}  // namespace trireme::cuda
