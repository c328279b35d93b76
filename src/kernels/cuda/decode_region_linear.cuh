// SPDX-License-Identifier: Apache-2.0
// Device part of decode_region.cuh: a block's share of one linear layer.
#pragma once

#include "kernels/cuda/decode_region_stream.cuh"

namespace trireme::cuda {

// The two 16-bit values of a word. Vectors are kept as words: as single values they would take twice
// the registers.
__device__ inline float2 WidenPair(uint32_t word, __nv_bfloat16 /*type*/) {
  return {__uint_as_float(word << 16), __uint_as_float(word & 0xffff0000u)};
}
__device__ inline float2 WidenPair(uint32_t word, __half /*type*/) {
  return __half22float2(*reinterpret_cast<const __half2*>(&word));
}

// Reads past L1, which does not see what other blocks write during the launch.
__device__ inline uint4 LoadFresh16(const void* source) {
  return __ldcg(static_cast<const uint4*>(source));
}
__device__ inline __nv_bfloat16 LoadFresh(const __nv_bfloat16* source) {
  return __ushort_as_bfloat16(__ldcg(reinterpret_cast<const unsigned short*>(source)));
}
__device__ inline __half LoadFresh(const __half* source) {
  return __ushort_as_half(__ldcg(reinterpret_cast<const unsigned short*>(source)));
}

// The computing warps' side of the ring and of a layer's products. Slot s is always warp
// s % kRegionWarps's, so that the warps meet only where a product ends; a slot of several warps could
// be a turn of the ring behind the one that asks for its parity.
//
// A chunk is multiplied as kRegionWarps x 32 lanes' dot products: the tensor cores' rows 0 to 7 are
// eight runs of the first row of W, rows 8 to 15 of the second, and the columns the same runs of x;
// the sums lie on the diagonals. So every lane reads 16 contiguous bytes of W and those of x.
template <typename T, typename Format, int kRows>
class RegionProducts {
 public:
  static constexpr int kThreads = kRegionWarps * 32;
  static constexpr int kXLoads = 2 / Format::kValueBytes;
  static constexpr int kDown = kRegionProducts - 1;
  static constexpr int kHeld = 8;  // vectors of x that a thread holds at once

  // What a layer's stage reads that no other stage writes, fetched before the grid's wait.
  struct Constants {
    uint4 gamma[kHeld];
    float bias;  // of the thread's first output
  };

  __device__ RegionProducts(const DecodeRegionParams& params, const DecodeRegionPlan& plan,
                            const RegionRing& ring, uint8_t* shared)
      : params_(params),
        plan_(plan),
        ring_(ring),
        shared_(shared),
        x_(shared + plan.x_offset),
        partial_(reinterpret_cast<float*>(shared + plan.partial_offset)),
        squares_(reinterpret_cast<float*>(shared + plan.squares_offset)),
        warp_(static_cast<int>(threadIdx.x) / 32),
        lane_(static_cast<int>(threadIdx.x) % 32),
        next_(warp_),
        slot_(warp_) {}

  // One linear layer of layer `layer`: from x in global memory to y.
  __device__ void Run(const RegionLinear& linear, int which, int layer, GridBarrier& grid) {
    const RegionProduct& product = plan_.products[which];
    const RegionSlice slice = SliceOf(plan_, product, layer);
    Constants constants;
    Fetch(linear, product, slice, constants);
    grid.Wait();
    const float residual = HeldResidual(linear, product, slice);
    if (Format::kValueBytes == 1 && which == kDown && Quantized()) {
      StageQuantized(linear, product.in_features);
    } else {
      StageInput(linear, product, constants.gamma);
    }
    ComputeBarrier();
    Multiply(product, slice.count * product.parts);
    ComputeBarrier();
    Finish(linear, product, slice, constants.bias, residual);
    grid.Arrive();
  }

 private:
  // Whether gate_up leaves its outputs as down takes them.
  __device__ bool Quantized() const { return params_.activated == Element::kFloat8E4M3; }

  // Outputs of a pair, and the place of the block's i-th output in a row of y.
  __device__ static int PairOutputs(const RegionProduct& product) { return product.gated ? 1 : 2; }
  __device__ static int FirstOutput(const RegionProduct& product, const RegionSlice& slice) {
    return slice.first * PairOutputs(product);
  }

  __device__ void Fetch(const RegionLinear& linear, const RegionProduct& product,
                        const RegionSlice& slice, Constants& constants) const {
    if (linear.gamma != nullptr) {
      const T* gamma = static_cast<const T*>(linear.gamma);
#pragma unroll
      for (int i = 0; i < kHeld; ++i) {
        const int k = (i * kThreads + static_cast<int>(threadIdx.x)) * 8;
        if (k < product.in_features)
          constants.gamma[i] = *reinterpret_cast<const uint4*>(gamma + k);
      }
    }
    constants.bias = 0.0f;
    const int outputs = slice.count * PairOutputs(product);
    if (linear.bias != nullptr && static_cast<int>(threadIdx.x) < outputs * kRows) {
      const int output = static_cast<int>(threadIdx.x) % outputs;
      constants.bias =
          ToFloat(static_cast<const T*>(linear.bias)[FirstOutput(product, slice) + output]);
    }
  }

  __device__ float Residual(const RegionLinear& linear, const RegionProduct& product, int token,
                            int output) const {
    if (linear.residual == nullptr) return 0.0f;
    const int64_t at = int64_t{token} * product.out_features + output;
    return ToFloat(LoadFresh(static_cast<const T*>(linear.residual) + at));
  }

  __device__ float HeldResidual(const RegionLinear& linear, const RegionProduct& product,
                                const RegionSlice& slice) const {
    const int outputs = slice.count * PairOutputs(product);
    const int thread = static_cast<int>(threadIdx.x);
    if (thread >= outputs * kRows) return 0.0f;
    return Residual(linear, product, thread / outputs,
                    FirstOutput(product, slice) + thread % outputs);
  }

  // x as the product takes it, in shared memory; rows that do not count too.
  __device__ void StageInput(const RegionLinear& linear, const RegionProduct& product,
                             const uint4 (&gamma)[kHeld]) const {
    const float input_scale = Format::kValueBytes == 1 ? 1.0f / linear.x_scale : 1.0f;
    const int size = product.in_features;
#pragma unroll 1
    for (int token = 0; token < kRows; ++token) {
      const T* x = static_cast<const T*>(linear.x) + int64_t{token} * size;
      uint8_t* row = x_ + token * plan_.x_row_bytes;
#pragma unroll 1
      for (int base = 0; base < size; base += kHeld * kThreads * 8) {
        uint4 held[kHeld];
#pragma unroll
        for (int i = 0; i < kHeld; ++i) {
          const int k = base + (i * kThreads + static_cast<int>(threadIdx.x)) * 8;
          if (k < size) held[i] = LoadFresh16(x + k);
        }
        float scale = input_scale;
        if (linear.gamma != nullptr) scale *= NormScale(held, size, linear.epsilon, token);
#pragma unroll
        for (int i = 0; i < kHeld; ++i) {
          const int k = base + (i * kThreads + static_cast<int>(threadIdx.x)) * 8;
          if (k < size)
            StoreOperand(held[i], gamma[i], linear.gamma != nullptr, scale, row, k, size);
        }
      }
    }
  }

  // As StageInput, from e4m3 values.
  __device__ void StageQuantized(const RegionLinear& linear, int size) const {
#pragma unroll 1
    for (int token = 0; token < kRows; ++token) {
      const uint8_t* x = static_cast<const uint8_t*>(linear.x) + int64_t{token} * size;
      uint8_t* row = x_ + token * plan_.x_row_bytes;
#pragma unroll 4
      for (int k = static_cast<int>(threadIdx.x) * 16; k < size; k += kThreads * 16) {
        const uint4 v = LoadFresh16(x + k);
        *reinterpret_cast<uint4*>(row + k) = {LowHalvesOfE4M3(v.x), HighHalvesOfE4M3(v.x),
                                              LowHalvesOfE4M3(v.y), HighHalvesOfE4M3(v.y)};
        *reinterpret_cast<uint4*>(row + size + k) = {LowHalvesOfE4M3(v.z), HighHalvesOfE4M3(v.z),
                                                     LowHalvesOfE4M3(v.w), HighHalvesOfE4M3(v.w)};
      }
    }
  }

  __device__ static float Squares(uint32_t word) {
    const float2 pair = WidenPair(word, T());
    return pair.x * pair.x + pair.y * pair.y;
  }

  __device__ float NormScale(const uint4 (&held)[kHeld], int size, float epsilon, int token) const {
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      if ((i * kThreads + static_cast<int>(threadIdx.x)) * 8 < size) {
        sum += Squares(held[i].x) + Squares(held[i].y) + Squares(held[i].z) + Squares(held[i].w);
      }
    }
#pragma unroll
    for (int mask = 16; mask > 0; mask /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, mask);
    float* squares = squares_ + token * kRegionWarps;
    if (lane_ == 0) squares[warp_] = sum;
    ComputeBarrier();
    sum = 0.0f;
#pragma unroll
    for (int warp = 0; warp < kRegionWarps; ++warp) sum += squares[warp];
    return rsqrtf(sum / static_cast<float>(size) + epsilon);
  }

  // Eight values from k on. e4m3 values become float16 in two planes: the first and the second eight
  // of each sixteen, so that both loads of a lane are contiguous over the warp.
  __device__ void StoreOperand(const uint4& x, const uint4& gamma, bool normed, float scale,
                               uint8_t* row, int k, int size) const {
    const uint32_t words[4] = {x.x, x.y, x.z, x.w};
    const uint32_t factors[4] = {gamma.x, gamma.y, gamma.z, gamma.w};
    float values[8];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 pair = Scaled(words[i], factors[i], normed, scale);
      values[2 * i] = pair.x;
      values[2 * i + 1] = pair.y;
    }
    const uint4 packed = {Format::Pack(values[0], values[1]), Format::Pack(values[2], values[3]),
                          Format::Pack(values[4], values[5]), Format::Pack(values[6], values[7])};
    const int at = Format::kValueBytes == 2 ? k * 2 : k / 8 % 2 * size + k / 16 * 16;
    *reinterpret_cast<uint4*>(row + at) = packed;
  }

  __device__ float2 Scaled(uint32_t x, uint32_t gamma, bool normed, float scale) const {
    float2 values = WidenPair(x, T());
    values.x *= scale;
    values.y *= scale;
    if (normed) {
      const float offset = params_.gamma_plus_one ? 1.0f : 0.0f;
      const float2 factors = WidenPair(gamma, T());
      values.x *= factors.x + offset;
      values.y *= factors.y + offset;
    }
    return values;
  }

  // The warp's chunks of the next `chunks` of the stream.
  __device__ void Multiply(const RegionProduct& product, int chunks) {
    const int end = base_ + chunks;
    while (next_ < end) {
      const int chunk = next_ - base_;
      const int part = chunk % product.parts;
      const int bytes = min(product.part_bytes, product.row_bytes - part * product.part_bytes);
      const uint8_t* w = shared_ + slot_ * plan_.slot_bytes;
      float d[kRows][2][4] = {};
      BarrierWait(ring_.full(slot_), phase_);
      MultiplyChunk(w, x_ + part * product.part_bytes, product.in_features, bytes, d);
      __syncwarp();
      if (lane_ == 0) BarrierArrive(ring_.empty(slot_));
      KeepSums(d, partial_ + chunk * 2 * kRows);
      next_ += kRegionWarps;
      slot_ += kRegionWarps;
      if (slot_ >= plan_.slots) {
        next_ += plan_.slots - slot_ + warp_;
        slot_ = warp_;
        phase_ ^= 1;
      }
    }
    base_ = end;
  }

  // bytes: of each row; x: the chunk's first byte in row 0, were x stored as W is.
  __device__ void MultiplyChunk(const uint8_t* w, const uint8_t* x, int plane, int bytes,
                                float (&d)[kRows][2][4]) const {
    constexpr int kStep = 512;
    constexpr int kTogether = 4;
    const uint8_t* second = w + plan_.slot_bytes / 2;
    int at = lane_ * 16;
    const int steps = bytes / kStep;
    int step = 0;
    for (; step + kTogether <= steps; step += kTogether, at += kTogether * kStep) {
      uint4 low[kTogether];
      uint4 high[kTogether];
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        low[i] = *reinterpret_cast<const uint4*>(w + at + i * kStep);
        high[i] = *reinterpret_cast<const uint4*>(second + at + i * kStep);
      }
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        MultiplyStep(low[i], high[i], x + at + i * kStep, plane, true, i, d);
      }
    }
    for (; step < steps; ++step, at += kStep) {
      MultiplyStep(*reinterpret_cast<const uint4*>(w + at),
                   *reinterpret_cast<const uint4*>(second + at), x + at, plane, true, 0, d);
    }
    if (bytes % kStep == 0) return;
    // Lanes beyond the end multiply zeros: their bytes of the ring are another chunk's.
    uint4 low = {};
    uint4 high = {};
    if (at < bytes) {
      low = *reinterpret_cast<const uint4*>(w + at);
      high = *reinterpret_cast<const uint4*>(second + at);
    }
    MultiplyStep(low, high, x + at, plane, at < bytes, 0, d);
  }

  __device__ void MultiplyStep(const uint4& low, const uint4& high, const uint8_t* x, int plane,
                               bool inside, int turn, float (&d)[kRows][2][4]) const {
#pragma unroll
    for (int token = 0; token < kRows; ++token) {
      uint4 operand[kXLoads] = {};
      if (inside) {
#pragma unroll
        for (int i = 0; i < kXLoads; ++i) {
          operand[i] = *reinterpret_cast<const uint4*>(x + token * plan_.x_row_bytes + i * plane);
        }
      }
      Format::Multiply(d[token][turn % 2], low, high, operand);
    }
  }

  __device__ static float Sum(const float (&d)[2][4], int i) { return d[0][i] + d[1][i]; }

  // Adds the diagonals: sums[token][row of the pair].
  __device__ void KeepSums(const float (&d)[kRows][2][4], float* sums) const {
    const int group = lane_ / 4;
#pragma unroll
    for (int token = 0; token < kRows; ++token) {
      const int diagonal = group % 2;
      float low = diagonal == 0 ? Sum(d[token], 0) : Sum(d[token], 1);
      float high = diagonal == 0 ? Sum(d[token], 2) : Sum(d[token], 3);
      // Lane 4 g + g / 2 holds run g of either row; these masks lead from one such lane to another.
#pragma unroll
      for (int i = 0; i < 3; ++i) {
        const int mask = i == 0 ? 4 : i == 1 ? 9 : 18;
        low += __shfl_xor_sync(0xffffffffu, low, mask);
        high += __shfl_xor_sync(0xffffffffu, high, mask);
      }
      if (lane_ == 0) {
        sums[token * 2] = low;
        sums[token * 2 + 1] = high;
      }
    }
  }

  __device__ float PairSum(const RegionProduct& product, int pair, int token, int row) const {
    const float* sums = partial_ + pair * product.parts * 2 * kRows + token * 2 + row;
    float sum = 0.0f;
    for (int part = 0; part < product.parts; ++part) sum += sums[part * 2 * kRows];
    return sum;
  }

  __device__ void Finish(const RegionLinear& linear, const RegionProduct& product,
                         const RegionSlice& slice, float held_bias, float held_residual) const {
    const int outputs = slice.count * PairOutputs(product);
    const int first = FirstOutput(product, slice);
    const int thread = static_cast<int>(threadIdx.x);
    for (int i = thread; i < outputs * kRows; i += kThreads) {
      const int token = i / outputs;
      const int output = i % outputs;
      float value;
      if (product.gated) {
        value =
            ActivateGemv(params_.activation, PairSum(product, output, token, 0) * linear.alpha) *
            (PairSum(product, output, token, 1) * linear.alpha);
      } else {
        value = PairSum(product, output / 2, token, output % 2) * linear.alpha;
      }
      if (i == thread) {
        value += held_bias;
        value += held_residual;
      } else {
        if (linear.bias != nullptr) {
          value += ToFloat(static_cast<const T*>(linear.bias)[first + output]);
        }
        value += Residual(linear, product, token, first + output);
      }
      const int64_t at = int64_t{token} * product.out_features + first + output;
      if (product.gated && Format::kValueBytes == 1 && Quantized()) {
        static_cast<__nv_fp8_e4m3*>(linear.y)[at] = __nv_fp8_e4m3(value / linear.y_scale);
      } else {
        static_cast<T*>(linear.y)[at] = FromFloat<T>(value);
      }
    }
  }

  const DecodeRegionParams& params_;
  const DecodeRegionPlan& plan_;
  const RegionRing& ring_;
  uint8_t* shared_;
  uint8_t* x_;
  float* partial_;
  float* squares_;
  int warp_;
  int lane_;
  int base_ = 0;  // first chunk of the product in the stream
  int next_;      // the warp's next chunk,
  int slot_;      // and where it comes to lie
  int phase_ = 0;
};

}  // namespace trireme::cuda
