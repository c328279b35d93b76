// SPDX-License-Identifier: Apache-2.0
// What every CUDA launcher needs besides its operands. C++17: included by .cu files. Owned by one
// engine thread; counters are not synchronised.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace trireme::cuda {

struct LaunchContext {
  cudaStream_t stream = nullptr;
  // Programmatic dependent launch: the kernel may start while its predecessor in the stream still
  // runs, and must call cudaGridDependencySynchronize() before it touches what that one wrote.
  bool dependent = false;
  int num_sms = 132;

  // Written by Launch.
  int64_t num_launches = 0;
  const char* last_launch = "";  // the launch an error belongs to
};

struct LaunchShape {
  dim3 grid = dim3(1);
  dim3 block = dim3(1);
  size_t shared_bytes = 0;
  int cluster = 1;  // thread blocks a cluster along x
};

}  // namespace trireme::cuda
