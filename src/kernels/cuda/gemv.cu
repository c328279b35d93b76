// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/gemv.h"

#include "device/cuda/launch.cuh"
#include "kernels/cuda/gemv.cuh"

namespace trireme::cuda {
namespace {

constexpr int kTileRows = 16;     // rows of W a tile: 8 of each branch of a gated layer
constexpr int kChunkBytes = 128;  // of one row, that a warp multiplies in one step
constexpr int kNormBytes = (kMaxGemvRows + 16) * 4;
constexpr int kPartialBytes = 32 * 1024;
constexpr int kPhaseBytes = 72 * 1024;         // of x, when it is staged in several phases
constexpr int kSinglePhaseBytes = 132 * 1024;  // of x, when it cannot be
constexpr int kMaxSharedBytes = 227 * 1024;

// How the blocks go through W, set by the host.
//
// Shared memory: [ring: depth x 4 x threads x 16 bytes][x: num_rows rows of x_row_bytes][partial sums: group_tiles x warps x num_rows x 16
// float32][norm: a scale for each row, a sum for each warp].
struct GemvPlan {
  int num_tiles = 0;
  int num_chunks = 0;    // of a row of W
  int num_phases = 0;    // x is staged in so many parts
  int phase_chunks = 0;  // a multiple of warps
  int group_tiles = 0;   // tiles of a block between two additions over its warps
  int x_row_bytes = 0;
  int x_offset = 0;
  int partial_offset = 0;
  int norm_offset = 0;
  int shared_bytes = 0;
};

int CeilDiv(int a, int b) { return (a + b - 1) / b; }

bool MakePlan(const GemvParams& params, const GemvConfig& config, int num_sms, GemvPlan* plan) {
  const int value_bytes = params.weight == Element::kFloat8E4M3 ? 1 : 2;
  const int chunk_values = kChunkBytes / value_bytes;
  const int stride = config.warps;
  plan->num_tiles = CeilDiv(params.out_features, kTileRows);
  plan->num_chunks = CeilDiv(params.in_features, chunk_values);
  const int block_tiles = CeilDiv(plan->num_tiles, num_sms);
  const int tile_bytes = config.warps * params.num_rows * kTileRows * 4;
  const int chunk_x_bytes = chunk_values * 2;
  // Rows of x start 64 (16-bit weights) or 16 bytes (e4m3) further round the banks than the last, so
  // that the lanes of a load meet in no bank.
  const int padding = value_bytes == 2 ? 64 : 16;
  const auto row_bytes = [&](int chunks) { return chunks * chunk_x_bytes + padding; };

  plan->num_phases = 1;
  plan->phase_chunks = CeilDiv(plan->num_chunks, stride) * stride;
  if (params.num_rows * row_bytes(plan->phase_chunks) > kPhaseBytes) {
    // All tiles of a block keep their partial sums over the phases.
    const int fitting = (kPhaseBytes / params.num_rows - padding) / chunk_x_bytes / stride * stride;
    if (fitting > 0 && block_tiles * tile_bytes <= kPartialBytes) {
      plan->num_phases = CeilDiv(plan->num_chunks, fitting);
      plan->phase_chunks = CeilDiv(CeilDiv(plan->num_chunks, plan->num_phases), stride) * stride;
      plan->num_phases = CeilDiv(plan->num_chunks, plan->phase_chunks);
    } else if (params.num_rows * row_bytes(plan->phase_chunks) > kSinglePhaseBytes) {
      return false;
    }
  }
  const int fitting_tiles = kPartialBytes / tile_bytes;
  plan->group_tiles = fitting_tiles < block_tiles ? fitting_tiles : block_tiles;
  plan->x_row_bytes = row_bytes(plan->phase_chunks);
  plan->x_offset = config.depth * config.warps * 32 * 64;
  plan->partial_offset = plan->x_offset + params.num_rows * plan->x_row_bytes;
  plan->norm_offset = plan->partial_offset + plan->group_tiles * tile_bytes;
  plan->shared_bytes = plan->norm_offset + kNormBytes;
  return plan->group_tiles > 0 && plan->shared_bytes <= kMaxSharedBytes;
}

// The place of a thread in the tensor cores' operands: row `group` (and + 8) of a tile, column
// `group` of x, and the lane's share of each chunk.
struct LanePlace {
  int warp = static_cast<int>(threadIdx.x) / 32;
  int group = static_cast<int>(threadIdx.x) % 32 / 4;
  int quad = static_cast<int>(threadIdx.x) % 4;
};

// Walks the steps of a warp through phases, tiles and chunks, loading ahead of the arithmetic.
template <int kWarps>
class WeightStream {
 public:
  __device__ WeightStream(const GemvParams& params, const GemvPlan& plan, int first_tile,
                          int last_tile)
      : w_(static_cast<const uint8_t*>(params.w)),
        row_bytes_(params.in_features * (params.weight == Element::kFloat8E4M3 ? 1 : 2)),
        rows_a_tile_(params.gated ? kTileRows / 2 : kTileRows),
        second_row_(params.gated ? params.out_features / 2 : kTileRows / 2),
        second_delta_(int64_t{second_row_} * row_bytes_),
        out_features_(params.out_features),
        phase_chunks_(plan.phase_chunks),
        num_phases_(plan.num_phases),
        first_tile_(first_tile),
        last_tile_(last_tile),
        tile_(first_tile),
        remaining_(phase_chunks_ / kWarps) {
    Seek();
  }

  // Starts the copies of a step: the thread's 16 bytes at two places of a chunk of rows g and g + 8,
  // to slot[row * 2 + place], kWarps * 32 uint4 apart.
  __device__ void Load(uint32_t slot) {
    constexpr uint32_t kPlace = kWarps * 32 * 16;
    const bool near = offset_ < end_;
    const bool far = offset_ + kChunkBytes / 2 < end_;
    StreamCopy(slot, address_, near);
    StreamCopy(slot + kPlace, address_ + kChunkBytes / 2, far);
    StreamCopy(slot + 2 * kPlace, address_ + second_delta_, near && second_valid_);
    StreamCopy(slot + 3 * kPlace, address_ + second_delta_ + kChunkBytes / 2, far && second_valid_);
    StreamCommit();
    Advance();
  }

 private:
  __device__ void Advance() {
    address_ += kWarps * kChunkBytes;
    offset_ += kWarps * kChunkBytes;
    if (--remaining_ > 0) return;
    remaining_ = phase_chunks_ / kWarps;
    if (++tile_ == last_tile_) {
      tile_ = first_tile_;
      ++phase_;
    }
    Seek();
  }

  __device__ void Seek() {
    const LanePlace place;
    end_ = phase_ < num_phases_ && tile_ < last_tile_ ? row_bytes_ : 0;
    const int row = tile_ * rows_a_tile_ + place.group;
    offset_ = (phase_ * phase_chunks_ + place.warp) * kChunkBytes + place.quad * 16;
    address_ = w_ + int64_t{row} * row_bytes_ + offset_;
    second_valid_ = row + second_row_ < out_features_;
  }

  const uint8_t* w_;
  int row_bytes_;
  int rows_a_tile_;
  int second_row_;  // rows between the two rows of a lane
  int64_t second_delta_;
  int out_features_;
  int phase_chunks_;
  int num_phases_;
  int first_tile_;
  int last_tile_;
  int phase_ = 0;
  int tile_;
  int remaining_;   // steps of the tile
  int offset_ = 0;  // in the row
  int end_ = 0;
  const uint8_t* address_ = nullptr;
  bool second_valid_ = false;
};

// Asks the L2 for what the block's prologue and first tiles will read.
__device__ void PrefetchConstants(const GemvParams& params, int l2_prefetch_bytes, int first_tile,
                                  int last_tile) {
  const int thread = static_cast<int>(threadIdx.x);
  const int line = thread * kChunkBytes;
  if (params.gamma != nullptr && line < params.in_features * 2) {
    PrefetchLineToL2(static_cast<const uint8_t*>(params.gamma) + line);
  }
  const int branches = params.gated ? 2 : 1;
  const int rows = kTileRows / branches;
  if (params.bias != nullptr && line < (last_tile - first_tile) * rows * 2) {
    const int byte = first_tile * rows * 2 + line;
    if (byte < params.out_features * 2) {
      PrefetchLineToL2(static_cast<const uint8_t*>(params.bias) + byte);
    }
  }
  constexpr int kSpan = 4096;
  const int row_bytes = params.in_features * (params.weight == Element::kFloat8E4M3 ? 1 : 2);
  for (int branch = 0; branch < branches; ++branch) {
    const int first_row = branch * (params.out_features / 2) + first_tile * rows;
    int end_row = first_row + (last_tile - first_tile) * rows;
    if (end_row > params.out_features) end_row = params.out_features;
    const int64_t owned = int64_t{end_row - first_row} * row_bytes;
    const int64_t wanted = l2_prefetch_bytes / branches;
    const int64_t bytes = wanted < owned ? wanted : owned;
    const uint8_t* base = static_cast<const uint8_t*>(params.w) + int64_t{first_row} * row_bytes;
    for (int64_t at = int64_t{thread} * kSpan; at < bytes; at += int64_t{blockDim.x} * kSpan) {
      const int64_t left = bytes - at;
      PrefetchSpanToL2(base + at, static_cast<int>(left < kSpan ? left / 16 * 16 : kSpan));
    }
  }
}

// scales[token] = 1 / sqrt(mean(x^2) + epsilon), for all threads. The warps share the tokens.
template <typename T, int kWarps>
__device__ void NormScales(const GemvParams& params, int rows, float* scales, float* sums) {
  const LanePlace place;
  const int thread = static_cast<int>(threadIdx.x);
  const int parts = rows > 4 ? kWarps / 8 : rows > 2 ? kWarps / 4 : kWarps / rows;
  const int token = place.warp / parts;
  if (token < rows) {
    const T* x = static_cast<const T*>(params.x) + token * params.x_stride;
    float sum = 0.0f;
#pragma unroll 4
    for (int k = (thread - token * parts * 32) * 8; k < params.in_features; k += parts * 32 * 8) {
      const Vector8<T> vector = Load8(x + k);
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const float value = ToFloat(vector.values[i]);
        sum += value * value;
      }
    }
#pragma unroll
    for (int mask = 16; mask > 0; mask /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, mask);
    if (thread % 32 == 0) sums[place.warp] = sum;
  }
  __syncthreads();
  if (thread < rows) {
    float sum = 0.0f;
    for (int part = 0; part < parts; ++part) sum += sums[thread * parts + part];
    scales[thread] = rsqrtf(sum / static_cast<float>(params.in_features) + params.epsilon);
  }
  __syncthreads();
}

// Eight values of x as the product takes them.
template <typename T, typename X>
__device__ Vector8<X> OperandOf(const GemvParams& params, const Vector8<T>& x,
                                const Vector8<T>& gamma, float norm_scale) {
  Vector8<X> operand;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    float value = ToFloat(x.values[i]);
    if (params.gamma != nullptr) {
      const float weight = ToFloat(gamma.values[i]) + (params.gamma_plus_one ? 1.0f : 0.0f);
      value *= norm_scale * weight;
    }
    if (params.weight == Element::kFloat8E4M3) {
      operand.values[i] = FromFloat<X>(ToFloat(RoundToE4M3(value / params.x_scale)));
    } else {
      operand.values[i] = FromFloat<X>(value);
    }
  }
  return operand;
}

// Eight e4m3 values as float16.
__device__ inline Vector8<__half> OperandOfE4M3(const uint8_t* x) {
  const uint2 packed = *reinterpret_cast<const uint2*>(x);
  Vector8<__half> operand;
  *reinterpret_cast<uint4*>(&operand) = {HalvesOfE4M3(packed.x), HalvesOfE4M3(packed.x >> 16),
                                         HalvesOfE4M3(packed.y), HalvesOfE4M3(packed.y >> 16)};
  return operand;
}

// Puts one phase of x into shared memory, zero beyond in_features. Loads of several tokens are in
// flight at a time.
template <typename T, typename Format, int kWarps>
__device__ void StageX(const GemvParams& params, const GemvPlan& plan, int phase, int rows,
                       uint8_t* x_shared, const float* scales) {
  using X = typename Format::X;
  constexpr int kTokens = 4;
  const int phase_values = plan.phase_chunks * (kChunkBytes / Format::kValueBytes);
  const bool quantized = Format::kValueBytes == 1 && params.x_dtype == Element::kFloat8E4M3;
  for (int i = static_cast<int>(threadIdx.x) * 8; i < phase_values; i += kWarps * 32 * 8) {
    const int k = phase * phase_values + i;
    const bool inside = k < params.in_features;
    Vector8<T> gamma = {};
    if (inside && params.gamma != nullptr) gamma = Load8(static_cast<const T*>(params.gamma) + k);
    for (int first = 0; first < rows; first += kTokens) {
      Vector8<T> x[kTokens] = {};
      Vector8<X> operands[kTokens] = {};
#pragma unroll
      for (int t = 0; t < kTokens; ++t) {
        if (!inside || first + t >= rows) continue;
        const int64_t at = (first + t) * params.x_stride + k;
        if constexpr (Format::kValueBytes == 1) {
          if (quantized) {
            operands[t] = OperandOfE4M3(static_cast<const uint8_t*>(params.x) + at);
            continue;
          }
        }
        x[t] = Load8(static_cast<const T*>(params.x) + at);
      }
#pragma unroll
      for (int t = 0; t < kTokens; ++t) {
        if (first + t >= rows) continue;
        const float scale = params.gamma != nullptr ? scales[first + t] : 1.0f;
        if (!quantized) operands[t] = OperandOf<T, X>(params, x[t], gamma, scale);
        Store8(reinterpret_cast<X*>(x_shared + (first + t) * plan.x_row_bytes) + i, operands[t]);
      }
    }
  }
}

// Keeps a lane's sums of a tile: partial[tile][warp][token][16 rows].
template <int kWarps>
__device__ void KeepPartial(const float (&sums)[4], int num_rows, int rows, bool add,
                            float* tile_partial) {
  const LanePlace place;
  float* mine = tile_partial + place.warp * num_rows * kTileRows + place.group;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int token = place.quad * 2 + i % 2;
    if (token >= rows) continue;
    float& slot = mine[token * kTileRows + i / 2 * (kTileRows / 2)];
    slot = add ? slot + sums[i] : sums[i];
  }
}

template <typename T>
__device__ void StoreOutput(const GemvParams& params, int token, int row, float value) {
  const int64_t at = token * params.y_stride + row;
  switch (params.y_dtype) {
    case Element::kFloat32: static_cast<float*>(params.y)[at] = value; break;
    case Element::kFloat8E4M3:
      static_cast<__nv_fp8_e4m3*>(params.y)[at] = __nv_fp8_e4m3(value / params.y_scale);
      break;
    default: static_cast<T*>(params.y)[at] = FromFloat<T>(value);
  }
}

// Adds the partial sums of tiles [first_tile, first_tile + count) over the warps, and finishes y.
template <typename T, int kWarps>
__device__ void FinishTiles(const GemvParams& params, int first_tile, int count, int rows,
                            const float* partial) {
  const int tile_out = params.gated ? kTileRows / 2 : kTileRows;
  const int out = params.gated ? params.out_features / 2 : params.out_features;
  for (int i = static_cast<int>(threadIdx.x); i < count * rows * tile_out; i += kWarps * 32) {
    const int in_tile = i % tile_out;
    const int token = i / tile_out % rows;
    const int tile = i / tile_out / rows;
    const int row = (first_tile + tile) * tile_out + in_tile;
    if (row >= out) continue;
    float value = 0.0f;
    float second = 0.0f;
#pragma unroll
    for (int warp = 0; warp < kWarps; ++warp) {
      const float* from =
          partial + ((tile * kWarps + warp) * params.num_rows + token) * kTileRows + in_tile;
      value += from[0];
      if (params.gated) second += from[kTileRows / 2];
    }
    value *= params.alpha;
    if (params.gated) value = ActivateGemv(params.activation, value) * (second * params.alpha);
    if (params.bias != nullptr) value += ToFloat(static_cast<const T*>(params.bias)[row]);
    if (params.residual != nullptr) {
      value +=
          ToFloat(static_cast<const T*>(params.residual)[token * params.residual_stride + row]);
    }
    StoreOutput<T>(params, token, row, value);
  }
}

// One block goes through a contiguous run of tiles. At most half of a multiprocessor's registers and
// threads, so that the next kernel's blocks can start their loads beside it.
template <typename T, typename Format, int kWarps, int kDepth>
__global__ void __launch_bounds__(kWarps * 32, 2)
    GemvKernel(const __grid_constant__ GemvParams params, const __grid_constant__ GemvPlan plan,
               int l2_prefetch_bytes) {
  constexpr int kThreads = kWarps * 32;
  constexpr int kXLoads = 2 / Format::kValueBytes;  // 16-byte loads of x for 16 bytes of W
  extern __shared__ __align__(16) uint8_t shared[];
  uint8_t* x_shared = shared + plan.x_offset;
  auto* partial = reinterpret_cast<float*>(shared + plan.partial_offset);
  auto* scales = reinterpret_cast<float*>(shared + plan.norm_offset);
  const LanePlace place;
  const auto block = static_cast<int64_t>(blockIdx.x);
  const int first_tile = static_cast<int>(block * plan.num_tiles / gridDim.x);
  const int last_tile = static_cast<int>((block + 1) * plan.num_tiles / gridDim.x);

  // --- weights ahead of the predecessor ---
  WeightStream<kWarps> stream(params, plan, first_tile, last_tile);
  const auto* ring = reinterpret_cast<const uint4*>(shared) + threadIdx.x;  // [kDepth][4][kThreads]
  const auto ring_address = static_cast<uint32_t>(__cvta_generic_to_shared(ring));
#pragma unroll
  for (int d = 0; d < kDepth; ++d) stream.Load(ring_address + d * kThreads * 64);
  PrefetchConstants(params, l2_prefetch_bytes, first_tile, last_tile);
  cudaGridDependencySynchronize();
  cudaTriggerProgrammaticLaunchCompletion();

  // --- products ---
  const int rows = min(params.num_rows, *params.num_tokens);
  if (params.gamma != nullptr && rows > 0) {
    NormScales<T, kWarps>(params, rows, scales, scales + kMaxGemvRows);
  }
  const int steps = plan.phase_chunks / kWarps;  // of a tile in a phase
  const int tile_floats = kWarps * params.num_rows * kTileRows;
  constexpr int kChunkXBytes = kChunkBytes / Format::kValueBytes * 2;
  const uint8_t* x_lane = x_shared + place.group * plan.x_row_bytes + place.warp * kChunkXBytes +
                          place.quad * 16 * kXLoads;
  int slot = 0;
  for (int phase = 0; phase < plan.num_phases; ++phase) {
    if (phase > 0) __syncthreads();
    StageX<T, Format, kWarps>(params, plan, phase, rows, x_shared, scales);
    __syncthreads();
    int in_group = 0;
    for (int tile = first_tile; tile < last_tile; ++tile) {
      float sums[4] = {};
      const uint8_t* x = x_lane;
      for (int step = 0; step < steps; ++step) {
        StreamWait<kDepth - 1>();
        const uint4* w = ring + slot * kThreads * 4;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          uint4 operand[kXLoads] = {};
          if (place.group < rows) {
#pragma unroll
            for (int i = 0; i < kXLoads; ++i) {
              operand[i] = *reinterpret_cast<const uint4*>(x + half * (kChunkXBytes / 2) + i * 16);
            }
          }
          Format::Multiply(sums, w[half * kThreads], w[(2 + half) * kThreads], operand);
        }
        stream.Load(ring_address + slot * kThreads * 64);
        slot = slot + 1 == kDepth ? 0 : slot + 1;
        x += kWarps * kChunkXBytes;
      }
      KeepPartial<kWarps>(sums, params.num_rows, rows, phase > 0, partial + in_group * tile_floats);
      ++in_group;
      const bool last = tile + 1 == last_tile;
      if (phase + 1 == plan.num_phases && (in_group == plan.group_tiles || last)) {
        __syncthreads();
        FinishTiles<T, kWarps>(params, tile + 1 - in_group, in_group, rows, partial);
        if (!last) __syncthreads();
        in_group = 0;
      }
    }
  }
}

template <typename T, typename Format>
cudaError_t LaunchFormat(const GemvParams& params, const GemvConfig& config, const GemvPlan& plan,
                         LaunchContext& context) {
  const int blocks = plan.num_tiles < context.num_sms ? plan.num_tiles : context.num_sms;
  const LaunchShape shape{.grid = dim3(static_cast<unsigned>(blocks)),
                          .block = dim3(static_cast<unsigned>(config.warps * 32)),
                          .shared_bytes = static_cast<size_t>(plan.shared_bytes)};
  const auto launch = [&](auto kernel) {
    return Launch(context, "Gemv", shape, kernel, params, plan, config.l2_prefetch_bytes);
  };
  if (config.warps == 16) {
    return config.depth == 2 ? launch(GemvKernel<T, Format, 16, 2>)
                             : launch(GemvKernel<T, Format, 16, 3>);
  }
  return config.depth == 4 ? launch(GemvKernel<T, Format, 8, 4>)
                           : launch(GemvKernel<T, Format, 8, 6>);
}

template <typename T, typename Mma>
cudaError_t LaunchDtype(const GemvParams& params, const GemvConfig& config, const GemvPlan& plan,
                        LaunchContext& context) {
  if (params.weight == Element::kFloat8E4M3) {
    return LaunchFormat<T, E4M3Weight>(params, config, plan, context);
  }
  return LaunchFormat<T, SixteenBitWeight<T, Mma>>(params, config, plan, context);
}

bool SupportsConfig(const GemvConfig& config) {
  if (config.warps == 16) return config.depth == 2 || config.depth == 3;
  return config.warps == 8 && (config.depth == 4 || config.depth == 6);
}

}  // namespace

bool SupportsGemv(const GemvParams& params, const GemvConfig& config, int num_sms) {
  const bool fp8 = params.weight == Element::kFloat8E4M3;
  if (params.dtype != Element::kBFloat16 && params.dtype != Element::kFloat16) return false;
  if (!fp8 && params.weight != params.dtype) return false;
  if (params.x_dtype != params.dtype && !(fp8 && params.x_dtype == Element::kFloat8E4M3)) {
    return false;
  }
  if (params.gamma != nullptr && params.x_dtype != params.dtype) return false;
  if (params.in_features <= 0 || params.in_features % (fp8 ? 16 : 8) != 0) return false;
  if (params.out_features <= 0 || params.out_features % (params.gated ? 16 : 8) != 0) return false;
  if (params.num_rows < 1 || params.num_rows > kMaxGemvRows || num_sms < 1) return false;
  GemvPlan plan;
  return SupportsConfig(config) && MakePlan(params, config, num_sms, &plan);
}

cudaError_t Gemv(const GemvParams& params, const GemvConfig& config, LaunchContext& context) {
  GemvPlan plan;
  if (!SupportsGemv(params, config, context.num_sms) ||
      !MakePlan(params, config, context.num_sms, &plan)) {
    return cudaErrorInvalidValue;
  }
  if (params.dtype == Element::kBFloat16) {
    return LaunchDtype<__nv_bfloat16, MmaBFloat16>(params, config, plan, context);
  }
  return LaunchDtype<__half, MmaFloat16>(params, config, plan, context);
}

}  // namespace trireme::cuda
