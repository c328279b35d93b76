// SPDX-License-Identifier: Apache-2.0
// Device helpers of gemv.cu: number formats of the streamed weight, and the instructions they use.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include <cstdint>

#include "kernels/cuda/vector.cuh"

namespace trireme::cuda {

// Copies 16 bytes of a weight to shared memory past L1, or writes zeros where `valid` is false. The
// copy belongs to the thread's next StreamCommit and is visible to this thread alone.
__device__ inline void StreamCopy(uint32_t target, const uint8_t* source, bool valid) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(target), "l"(source),
               "r"(valid ? 16 : 0)
               : "memory");
}

__device__ inline void StreamCommit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits for all but the last kPending commits of this thread.
template <int kPending>
__device__ inline void StreamWait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// Asks the L2 for a span; bytes: a multiple of 16.
__device__ inline void PrefetchSpanToL2(const uint8_t* address, int bytes) {
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(address), "r"(bytes));
}

// D[16 x 8] += A[16 x 16] B[16 x 8], float32 accumulation.
struct MmaBFloat16 {
  static __device__ void Run(float (&d)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                             uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
  }
};
struct MmaFloat16 {
  static __device__ void Run(float (&d)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                             uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
  }
};

// The two e4m3 values in the low or the high half of a word, as float16: exact.
__device__ inline uint32_t LowHalvesOfE4M3(uint32_t word) {
  uint32_t halves;
  asm("{\n"
      "  .reg .b16 low, high;\n"
      "  mov.b32 {low, high}, %1;\n"
      "  cvt.rn.f16x2.e4m3x2 %0, low;\n"
      "}\n"
      : "=r"(halves)
      : "r"(word));
  return halves;
}
__device__ inline uint32_t HighHalvesOfE4M3(uint32_t word) {
  uint32_t halves;
  asm("{\n"
      "  .reg .b16 low, high;\n"
      "  mov.b32 {low, high}, %1;\n"
      "  cvt.rn.f16x2.e4m3x2 %0, high;\n"
      "}\n"
      : "=r"(halves)
      : "r"(word));
  return halves;
}

// Two floats as 16-bit values, the first in the low half.
__device__ inline uint32_t PackPair(float low, float high, __nv_bfloat16 /*type*/) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}
__device__ inline uint32_t PackPair(float low, float high, __half /*type*/) {
  const __half2 pair = __floats2half2_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

// A weight format: kValueBytes of a stored value; Pack: two values of x as they stand in shared
// memory, in 16 bits; Multiply: 16 bytes of row g and of row g + 8 times the same k of x. The order
// of k inside the 16 bytes is free as long as W and x agree, so that a lane's 16 contiguous bytes
// serve as its part of several A operands.
template <typename T, typename Mma>
struct SixteenBitWeight {
  static constexpr int kValueBytes = 2;
  static __device__ uint32_t Pack(float low, float high) { return PackPair(low, high, T()); }
  static __device__ void Multiply(float (&d)[4], const uint4& w0, const uint4& w1,
                                  const uint4 (&x)[1]) {
    Mma::Run(d, w0.x, w1.x, w0.y, w1.y, x[0].x, x[0].y);
    Mma::Run(d, w0.z, w1.z, w0.w, w1.w, x[0].z, x[0].w);
  }
};

// e4m3 weights and inputs, multiplied as float16.
struct E4M3Weight {
  static constexpr int kValueBytes = 1;
  static __device__ uint32_t Pack(float low, float high) {
    uint16_t pair;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(pair) : "f"(high), "f"(low));
    return LowHalvesOfE4M3(pair);
  }
  static __device__ void Word(float (&d)[4], uint32_t w0, uint32_t w1, uint32_t b0, uint32_t b1) {
    MmaFloat16::Run(d, LowHalvesOfE4M3(w0), LowHalvesOfE4M3(w1), HighHalvesOfE4M3(w0),
                    HighHalvesOfE4M3(w1), b0, b1);
  }
  static __device__ void Multiply(float (&d)[4], const uint4& w0, const uint4& w1,
                                  const uint4 (&x)[2]) {
    Word(d, w0.x, w1.x, x[0].x, x[0].y);
    Word(d, w0.y, w1.y, x[0].z, x[0].w);
    Word(d, w0.z, w1.z, x[1].x, x[1].y);
    Word(d, w0.w, w1.w, x[1].z, x[1].w);
  }
};

__device__ inline float ActivateGemv(Activation activation, float x) {
  switch (activation) {
    case Activation::kSilu: return x / (1.0f + __expf(-x));
    case Activation::kGelu: return 0.5f * x * (1.0f + erff(x * 0.70710678f));
    case Activation::kGeluTanh:
      return 0.5f * x * (1.0f + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
    case Activation::kRelu: return fmaxf(x, 0.0f);
  }
  return x;
}

}  // namespace trireme::cuda
