// SPDX-License-Identifier: Apache-2.0
// For GPU tests and benchmarks: device arrays with poison and guard bytes. Host code, C++20.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <vector>

namespace trireme::cuda {

// An array in device memory between two guards; starts as NaN in every 16- and 32-bit float type.
template <typename T>
class DeviceArray {
 public:
  explicit DeviceArray(size_t size) : size_(size) {
    EXPECT_EQ(cudaMalloc(reinterpret_cast<void**>(&base_), bytes() + 2 * kGuard), cudaSuccess);
    EXPECT_EQ(cudaMemset(base_, 0xff, bytes() + 2 * kGuard), cudaSuccess);
  }
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) {
    EXPECT_EQ(cudaMemcpy(data(), values.data(), bytes(), cudaMemcpyHostToDevice), cudaSuccess);
  }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  ~DeviceArray() {
    std::vector<unsigned char> guards(2 * kGuard);
    EXPECT_EQ(cudaMemcpy(guards.data(), base_, kGuard, cudaMemcpyDeviceToHost), cudaSuccess);
    EXPECT_EQ(cudaMemcpy(guards.data() + kGuard, base_ + kGuard + bytes(), kGuard,
                         cudaMemcpyDeviceToHost),
              cudaSuccess);
    for (unsigned char byte : guards) EXPECT_EQ(byte, 0xff) << "a guard byte was overwritten";
    cudaFree(base_);
  }

  T* data() { return reinterpret_cast<T*>(base_ + kGuard); }
  size_t size() const { return size_; }
  size_t bytes() const { return size_ * sizeof(T); }

  // Waits for all work on the device.
  std::vector<T> Read() {
    std::vector<T> values(size_);
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    EXPECT_EQ(cudaMemcpy(values.data(), data(), bytes(), cudaMemcpyDeviceToHost), cudaSuccess);
    return values;
  }

 private:
  static constexpr size_t kGuard = 256;
  unsigned char* base_ = nullptr;
  size_t size_;
};

inline std::vector<__nv_bfloat16> ToBFloat16(const std::vector<float>& values) {
  std::vector<__nv_bfloat16> rounded;
  rounded.reserve(values.size());
  for (float value : values) rounded.push_back(__float2bfloat16_rn(value));
  return rounded;
}

}  // namespace trireme::cuda
