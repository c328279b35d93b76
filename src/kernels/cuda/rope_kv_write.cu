// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/rope_kv_write.h"

#include "device/cuda/launch.cuh"
#include "kernels/cuda/rotary.cuh"
#include "kernels/cuda/vector.cuh"

namespace trireme::cuda {
namespace {

constexpr int kThreads = 128;

// Eight elements of a cache row, stored as one.
template <typename Cache>
struct alignas(8 * sizeof(Cache)) CacheVector {
  Cache values[8];
};

// How the threads of a token divide its heads: units of eight pairs that rotate together (neox), of
// eight neighbours (gptj, copied elements, V), or of one pair where a size is no multiple of eight.
struct HeadUnits {
  int rotated;  // units of a q or k head that rotate
  int all;      // units of a q or k head
  int value;    // units of a v head
  bool vector;
};

__host__ __device__ inline HeadUnits UnitsOf(RotaryStyle style, int rotary_dim, int head_dim) {
  const int rotary = style == RotaryStyle::kNone ? 0 : rotary_dim;
  if (rotary % (style == RotaryStyle::kNeox ? 16 : 8) != 0) {
    return {rotary / 2, head_dim / 2, head_dim / 2, false};
  }
  const int rotated = style == RotaryStyle::kNeox ? rotary / 16 : rotary / 8;
  return {rotated, rotated + (head_dim - rotary) / 8, head_dim / 8, true};
}

// Where one head's row goes: back to q, or to the cache.
template <typename T, typename Cache>
struct Target {
  T* query;      // or null
  Cache* cache;  // or null
  float inverse_scale;

  __device__ void Store(int i, const Vector8<T>& x) const {
    if (query != nullptr) Store8(query + i, x);
    if (cache == nullptr) return;
    CacheVector<Cache> y;
    for (int e = 0; e < 8; ++e) y.values[e] = ToCache<Cache>(ToFloat(x.values[e]), inverse_scale);
    *reinterpret_cast<CacheVector<Cache>*>(cache + i) = y;
  }
  __device__ void Store(int i, T x) const {
    if (query != nullptr) query[i] = x;
    if (cache != nullptr) cache[i] = ToCache<Cache>(ToFloat(x), inverse_scale);
  }
};

// Rotated values are rounded to T before the cache rounds them to its own type, as an unfused
// model's would be.
template <typename T>
__device__ inline void RotateRounded(T& a, T& b, float cos, float sin) {
  float x = ToFloat(a);
  float y = ToFloat(b);
  Rotate(x, y, cos, sin);
  a = FromFloat<T>(x);
  b = FromFloat<T>(y);
}

template <typename T, typename Cache>
__device__ void VectorUnit(const RopeKvWriteParams& p, const T* x, const float* cos,
                           const float* sin, int unit, int rotated, const Target<T, Cache>& y) {
  if (unit >= rotated) {
    const int i =
        (p.style == RotaryStyle::kNeox ? rotated * 16 : rotated * 8) + (unit - rotated) * 8;
    y.Store(i, Load8(x + i));
  } else if (p.style == RotaryStyle::kNeox) {
    const int half = p.rotary_dim / 2;
    Vector8<T> a = Load8(x + unit * 8);
    Vector8<T> b = Load8(x + half + unit * 8);
    for (int e = 0; e < 8; ++e) {
      RotateRounded(a.values[e], b.values[e], cos[unit * 8 + e], sin[unit * 8 + e]);
    }
    y.Store(unit * 8, a);
    y.Store(half + unit * 8, b);
  } else {
    Vector8<T> a = Load8(x + unit * 8);
    for (int e = 0; e < 4; ++e) {
      RotateRounded(a.values[2 * e], a.values[2 * e + 1], cos[unit * 4 + e], sin[unit * 4 + e]);
    }
    y.Store(unit * 8, a);
  }
}

template <typename T, typename Cache>
__device__ void PairUnit(const RopeKvWriteParams& p, const T* x, const float* cos, const float* sin,
                         int unit, int rotated, const Target<T, Cache>& y) {
  const RotaryPair pair = PairOf(rotated > 0 ? p.style : RotaryStyle::kNone, p.rotary_dim, unit);
  T a = x[pair.first];
  T b = x[pair.second];
  if (pair.rotated) RotateRounded(a, b, cos[unit], sin[unit]);
  y.Store(pair.first, a);
  y.Store(pair.second, b);
}

// blockIdx.x: token; blockIdx.y and threadIdx.x: unit among the token's heads (q, then k, then v).
template <typename T, typename Cache>
__global__ void RopeKvWriteKernel(const __grid_constant__ RopeKvWriteParams p) {
  cudaGridDependencySynchronize();
  cudaTriggerProgrammaticLaunchCompletion();
  const int token = static_cast<int>(blockIdx.x);
  if (token >= p.step.counts->num_tokens) return;
  const int head_dim = p.kv.head_dim;
  const HeadUnits units = UnitsOf(p.style, p.rotary_dim, head_dim);
  const int turning = (p.num_heads + p.kv.num_kv_heads) * units.all;
  int unit = static_cast<int>(blockIdx.y * blockDim.x + threadIdx.x);
  if (unit >= turning + p.kv.num_kv_heads * units.value) return;
  const bool value = unit >= turning;
  if (value) unit -= turning;
  const int units_per_head = value ? units.value : units.all;
  const int head = unit / units_per_head;  // among q and k heads, or among v heads
  unit -= head * units_per_head;

  T* row = static_cast<T*>(p.qkv) + token * p.qkv_stride;
  T* x = row + int64_t{head + (value ? p.num_heads + p.kv.num_kv_heads : 0)} * head_dim;
  Target<T, Cache> y = {nullptr, nullptr, 1.0f / (value ? p.kv.v_scale : p.kv.k_scale)};
  if (!value && head < p.num_heads) {
    if (units.rotated == 0) return;
    y.query = x;
  } else {
    const int seq = p.step.token_seqs[token];
    const int place = p.step.context_lens[seq] + token - p.step.cu_query_lens[seq];
    const int block =
        p.step.block_tables[int64_t{seq} * p.step.block_table_stride + place / p.kv.block_size];
    const int kv_head = value ? head : head - p.num_heads;
    y.cache = HeadOfBlock<Cache>(p.kv, block, p.layer, value, kv_head) +
              int64_t{place % p.kv.block_size} * head_dim;
  }
  const int rotated = value ? 0 : units.rotated;
  const int64_t table = rotated > 0 ? int64_t{p.step.positions[token]} * (p.rotary_dim / 2) : 0;
  if (units.vector) {
    VectorUnit<T, Cache>(p, x, p.cos + table, p.sin + table, unit, rotated, y);
  } else {
    PairUnit<T, Cache>(p, x, p.cos + table, p.sin + table, unit, rotated, y);
  }
}

template <typename T, typename Cache>
cudaError_t LaunchTyped(const RopeKvWriteParams& p, LaunchContext& context) {
  const HeadUnits units = UnitsOf(p.style, p.rotary_dim, p.kv.head_dim);
  const int total = (p.num_heads + p.kv.num_kv_heads) * units.all + p.kv.num_kv_heads * units.value;
  const LaunchShape shape{.grid = dim3(static_cast<unsigned>(p.step.max_tokens),
                                       static_cast<unsigned>((total + kThreads - 1) / kThreads)),
                          .block = dim3(kThreads)};
  return Launch(context, "RopeKvWrite", shape, RopeKvWriteKernel<T, Cache>, p);
}

template <typename T>
cudaError_t LaunchCache(const RopeKvWriteParams& p, LaunchContext& context) {
  if (p.kv.dtype == p.dtype) return LaunchTyped<T, T>(p, context);
  if (p.kv.dtype == Element::kFloat8E4M3) return LaunchTyped<T, __nv_fp8_e4m3>(p, context);
  return cudaErrorInvalidValue;
}

}  // namespace

cudaError_t RopeKvWrite(const RopeKvWriteParams& p, LaunchContext& context) {
  const bool rotary = p.style != RotaryStyle::kNone;
  if (p.kv.head_dim <= 0 || p.kv.head_dim % 8 != 0 || p.qkv_stride % 8 != 0 || p.num_heads <= 0 ||
      p.kv.num_kv_heads <= 0 || p.kv.block_size <= 0 || p.step.max_tokens <= 0) {
    return cudaErrorInvalidValue;
  }
  if (rotary && (p.rotary_dim <= 0 || p.rotary_dim % 2 != 0 || p.rotary_dim > p.kv.head_dim ||
                 p.cos == nullptr || p.sin == nullptr)) {
    return cudaErrorInvalidValue;
  }
  switch (p.dtype) {
    case Element::kBFloat16: return LaunchCache<__nv_bfloat16>(p, context);
    case Element::kFloat16: return LaunchCache<__half>(p, context);
    default: return cudaErrorInvalidValue;
  }
}

}  // namespace trireme::cuda
