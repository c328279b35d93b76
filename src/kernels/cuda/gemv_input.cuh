// SPDX-License-Identifier: Apache-2.0
// Device part of gemv.cu: x, norm weight, bias and residual on their way into shared memory.
#pragma once

#include "kernels/cuda/gemv.cuh"
#include "kernels/cuda/gemv_plan.h"
#include "kernels/cuda/gemv_stream.cuh"

namespace trireme::cuda {

// Starts the copy of `count` 16-bit values, all threads taking part; nothing beyond `end` is read.
__device__ inline void CopyRow(uint32_t target, const void* row, int first, int count, int end) {
  for (int i = static_cast<int>(threadIdx.x) * 8; i < count;
       i += static_cast<int>(blockDim.x) * 8) {
    const auto* source = static_cast<const uint8_t*>(row) + (first + i) * 2;
    StreamCopy(target + i * 2, source, first + i < end);
  }
}

// What no predecessor writes.
__device__ inline void CopyConstants(const GemvParams& params, const GemvPlan& plan,
                                     uint32_t shared, int first_row) {
  if (params.gamma != nullptr) {
    CopyRow(shared + plan.gamma_offset, params.gamma, 0, params.in_features, params.in_features);
  }
  if (params.bias != nullptr) {
    CopyRow(shared + plan.bias_offset, params.bias, first_row, plan.block_rows,
            params.out_features);
  }
}

__device__ inline void CopyResidual(const GemvParams& params, const GemvPlan& plan, uint32_t shared,
                                    int first_row) {
  if (params.residual == nullptr) return;
  for (int token = 0; token < params.num_rows; ++token) {
    CopyRow(shared + plan.residual_offset + token * plan.block_rows * 2,
            static_cast<const uint8_t*>(params.residual) + token * params.residual_stride * 2,
            first_row, plan.block_rows, params.out_features);
  }
}

// One phase of x as the product takes it, in shared memory; zero beyond in_features. Rows that do
// not count are staged too: their sums are never stored, and no count has to be waited for.
template <typename T, typename Format, int kWarps>
class InputStage {
 public:
  static constexpr int kThreads = kWarps * 32;
  static constexpr bool kFp8 = Format::kValueBytes == 1;

  __device__ InputStage(const GemvParams& params, const GemvPlan& plan, uint8_t* shared)
      : params_(params),
        plan_(plan),
        x_(shared + plan.x_offset),
        gamma_(reinterpret_cast<const T*>(shared + plan.gamma_offset)),
        squares_(reinterpret_cast<float*>(shared + plan.squares_offset)),
        phase_values_(plan.phase_chunks * (kGemvChunkBytes / Format::kValueBytes)),
        gamma_offset_(params.gamma_plus_one ? 1.0f : 0.0f),
        input_scale_(kFp8 ? 1.0f / params.x_scale : 1.0f) {}

  // Ends with a barrier. All copies, those of constants and residual too, have landed then.
  __device__ void Run(int phase) {
    if (kFp8 && params_.x_dtype == Element::kFloat8E4M3) {
      Widen(phase * phase_values_);
      StreamCommit();
      StreamWait<0>();
    } else {
      const auto target = static_cast<uint32_t>(__cvta_generic_to_shared(x_));
      for (int token = 0; token < params_.num_rows; ++token) {
        CopyRow(target + token * plan_.x_row_bytes,
                static_cast<const T*>(params_.x) + token * params_.x_stride, phase * phase_values_,
                phase_values_, params_.in_features);
      }
      StreamCommit();
      StreamWait<0>();
      if (params_.gamma != nullptr) SumSquares();
      if (kFp8 || params_.gamma != nullptr) Transform();
    }
    __syncthreads();
  }

 private:
  // e4m3 to float16, several loads in flight.
  __device__ void Widen(int first) {
    constexpr int kLoads = 4;
    const int vectors = phase_values_ / 8;
    const int total = params_.num_rows * vectors;
    for (int base = static_cast<int>(threadIdx.x); base < total; base += kLoads * kThreads) {
      uint2 packed[kLoads] = {};
#pragma unroll
      for (int i = 0; i < kLoads; ++i) {
        const int vector = base + i * kThreads;
        const int k = first + vector % vectors * 8;
        if (vector < total && k < params_.in_features) {
          packed[i] = *reinterpret_cast<const uint2*>(static_cast<const uint8_t*>(params_.x) +
                                                      vector / vectors * params_.x_stride + k);
        }
      }
#pragma unroll
      for (int i = 0; i < kLoads; ++i) {
        const int vector = base + i * kThreads;
        if (vector >= total) continue;
        *reinterpret_cast<uint4*>(x_ + vector / vectors * plan_.x_row_bytes +
                                  vector % vectors * 16) = {
            LowHalvesOfE4M3(packed[i].x), HighHalvesOfE4M3(packed[i].x),
            LowHalvesOfE4M3(packed[i].y), HighHalvesOfE4M3(packed[i].y)};
      }
    }
  }

  // Warps that share a row of x.
  __device__ int Parts() const {
    const int rows = params_.num_rows;
    return rows > 4 ? kWarps / 8 : rows > 2 ? kWarps / 4 : kWarps / rows;
  }

  __device__ void SumSquares() {
    __syncthreads();  // x and gamma have landed
    const LanePlace place;
    const int parts = Parts();
    const int token = place.warp / parts;
    const int thread = static_cast<int>(threadIdx.x) - token * parts * 32;
    float sum = 0.0f;
    if (token < params_.num_rows) {
      const T* x = reinterpret_cast<const T*>(x_ + token * plan_.x_row_bytes);
      for (int k = thread * 8; k < params_.in_features; k += parts * 32 * 8) {
        const Vector8<T> vector = Load8(x + k);
#pragma unroll
        for (int i = 0; i < 8; ++i) sum += ToFloat(vector.values[i]) * ToFloat(vector.values[i]);
      }
    }
#pragma unroll
    for (int mask = 16; mask > 0; mask /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, mask);
    if (thread % 32 == 0) squares_[place.warp] = sum;
    __syncthreads();
  }

  __device__ float NormScale(int token) const {
    const int parts = Parts();
    float sum = 0.0f;
#pragma unroll
    for (int part = 0; part < kWarps; ++part) {
      if (part < parts) sum += squares_[token * parts + part];
    }
    return rsqrtf(sum / static_cast<float>(params_.in_features) + params_.epsilon);
  }

  // In place; each thread turns the vectors that it copied.
  __device__ void Transform() {
    for (int token = 0; token < params_.num_rows; ++token) {
      const float scale = (params_.gamma != nullptr ? NormScale(token) : 1.0f) * input_scale_;
      uint8_t* row = x_ + token * plan_.x_row_bytes;
      for (int i = static_cast<int>(threadIdx.x) * 8; i < phase_values_; i += kThreads * 8) {
        const Vector8<T> x = Load8(reinterpret_cast<const T*>(row) + i);
        Vector8<T> gamma = {};
        if (params_.gamma != nullptr && i < params_.in_features) gamma = Load8(gamma_ + i);
        *reinterpret_cast<uint4*>(row + i * 2) = Operand(x, gamma, scale);
      }
    }
  }

  __device__ uint4 Operand(const Vector8<T>& x, const Vector8<T>& gamma, float scale) const {
    float values[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      values[i] = ToFloat(x.values[i]) * scale;
      if (params_.gamma != nullptr) values[i] *= ToFloat(gamma.values[i]) + gamma_offset_;
    }
    return {Format::Pack(values[0], values[1]), Format::Pack(values[2], values[3]),
            Format::Pack(values[4], values[5]), Format::Pack(values[6], values[7])};
  }

  const GemvParams& params_;
  const GemvPlan& plan_;
  uint8_t* x_;
  const T* gamma_;
  float* squares_;
  int phase_values_;
  float gamma_offset_;
  float input_scale_;
};

}  // namespace trireme::cuda
