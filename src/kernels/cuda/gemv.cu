// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/gemv.h"

#include "device/cuda/launch.cuh"
#include "kernels/cuda/gemv.cuh"
#include "kernels/cuda/gemv_plan.h"

namespace trireme::cuda {
namespace {

constexpr int kTileRows = kGemvTileRows;
constexpr int kChunkBytes = kGemvChunkBytes;

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

// Asks the L2 for the first bytes of the block's part of W.
__device__ void PrefetchWeights(const GemvParams& params, int l2_prefetch_bytes, int first_tile,
                                int last_tile) {
  constexpr int kSpan = 4096;
  const int branches = params.gated ? 2 : 1;
  const int rows = kTileRows / branches;
  const int row_bytes = params.in_features * (params.weight == Element::kFloat8E4M3 ? 1 : 2);
  for (int branch = 0; branch < branches; ++branch) {
    const int first_row = branch * (params.out_features / 2) + first_tile * rows;
    const int end_row = min(first_row + (last_tile - first_tile) * rows, params.out_features);
    const int64_t owned = int64_t{end_row - first_row} * row_bytes;
    const int64_t wanted = l2_prefetch_bytes / branches;
    const int64_t bytes = wanted < owned ? wanted : owned;
    const uint8_t* base = static_cast<const uint8_t*>(params.w) + int64_t{first_row} * row_bytes;
    for (int64_t at = int64_t{threadIdx.x} * kSpan; at < bytes; at += int64_t{blockDim.x} * kSpan) {
      const int64_t left = bytes - at;
      PrefetchSpanToL2(base + at, static_cast<int>(left < kSpan ? left / 16 * 16 : kSpan));
    }
  }
}

// Starts the copy of `count` 16-bit values, all threads taking part; nothing beyond `end` is read.
__device__ void CopyRow(uint32_t target, const void* row, int first, int count, int end) {
  for (int i = static_cast<int>(threadIdx.x) * 8; i < count;
       i += static_cast<int>(blockDim.x) * 8) {
    const auto* source = static_cast<const uint8_t*>(row) + (first + i) * 2;
    StreamCopy(target + i * 2, source, first + i < end);
  }
}

// What no predecessor writes.
__device__ void CopyConstants(const GemvParams& params, const GemvPlan& plan, uint32_t shared,
                              int first_row) {
  if (params.gamma != nullptr) {
    CopyRow(shared + plan.gamma_offset, params.gamma, 0, params.in_features, params.in_features);
  }
  if (params.bias != nullptr) {
    CopyRow(shared + plan.bias_offset, params.bias, first_row, plan.block_rows,
            params.out_features);
  }
}

__device__ void CopyResidual(const GemvParams& params, const GemvPlan& plan, uint32_t shared,
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
        phase_values_(plan.phase_chunks * (kChunkBytes / Format::kValueBytes)),
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

// Keeps a lane's sums of a tile: partial[tile][warp][token][16 rows].
__device__ void KeepPartial(const float (&sums)[2][4], int num_rows, bool add,
                            float* tile_partial) {
  const LanePlace place;
  float* mine = tile_partial + place.warp * num_rows * kTileRows + place.group;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int token = place.quad * 2 + i % 2;
    if (token >= num_rows) continue;
    float& slot = mine[token * kTileRows + i / 2 * (kTileRows / 2)];
    const float sum = sums[0][i] + sums[1][i];
    slot = add ? slot + sum : sum;
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

// Adds the partial sums of tiles [tile, tile + count) over the warps, and finishes y. The block's
// own tiles start at first_tile.
template <typename T, int kWarps>
__device__ void FinishTiles(const GemvParams& params, const GemvPlan& plan, int first_tile,
                            int tile, int count, int rows, const uint8_t* shared) {
  const auto* partial = reinterpret_cast<const float*>(shared + plan.partial_offset);
  const auto* bias = reinterpret_cast<const T*>(shared + plan.bias_offset);
  const auto* residual = reinterpret_cast<const T*>(shared + plan.residual_offset);
  const int tile_out = params.gated ? kTileRows / 2 : kTileRows;
  const int out = params.gated ? params.out_features / 2 : params.out_features;
  for (int i = static_cast<int>(threadIdx.x); i < count * rows * tile_out; i += kWarps * 32) {
    const int in_tile = i % tile_out;
    const int token = i / tile_out % rows;
    const int in_group = i / tile_out / rows;
    const int row = (tile + in_group) * tile_out + in_tile;
    if (row >= out) continue;
    float value = 0.0f;
    float second = 0.0f;
#pragma unroll
    for (int warp = 0; warp < kWarps; ++warp) {
      const float* from =
          partial + ((in_group * kWarps + warp) * params.num_rows + token) * kTileRows + in_tile;
      value += from[0];
      if (params.gated) second += from[kTileRows / 2];
    }
    value *= params.alpha;
    if (params.gated) value = ActivateGemv(params.activation, value) * (second * params.alpha);
    const int in_block = row - first_tile * kTileRows;
    if (params.bias != nullptr) value += ToFloat(bias[in_block]);
    if (params.residual != nullptr) value += ToFloat(residual[token * plan.block_rows + in_block]);
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
  const auto shared_address = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  const LanePlace place;
  const int block = static_cast<int>(blockIdx.x);
  const int first_tile = block * plan.block_tiles + min(block, plan.longer_blocks);
  const int last_tile = first_tile + plan.block_tiles + (block < plan.longer_blocks ? 1 : 0);

  // --- weights and constants ahead of the predecessor ---
  WeightStream<kWarps> stream(params, plan, first_tile, last_tile);
  const auto* ring = reinterpret_cast<const uint4*>(shared) + threadIdx.x;  // [kDepth][4][kThreads]
  const uint32_t ring_address = shared_address + threadIdx.x * 16;
#pragma unroll
  for (int d = 0; d < kDepth; ++d) stream.Load(ring_address + d * kThreads * 64);
  CopyConstants(params, plan, shared_address, first_tile * kTileRows);
  PrefetchWeights(params, l2_prefetch_bytes, first_tile, last_tile);
  cudaGridDependencySynchronize();

  // --- products ---
  CopyResidual(params, plan, shared_address, first_tile * kTileRows);
  const int rows = min(params.num_rows, *params.num_tokens);
  InputStage<T, Format, kWarps> input(params, plan, shared);
  const int steps = plan.phase_chunks / kWarps;  // of a tile in a phase
  // The successor may start once the last loads are on their way: its own first loads then fill the
  // gap that this kernel's end leaves. Earlier, they would only take bandwidth from this kernel.
  const int trigger_step = steps > kDepth ? steps - kDepth : 0;
  const int tile_floats = kWarps * params.num_rows * kTileRows;
  auto* partial = reinterpret_cast<float*>(shared + plan.partial_offset);
  constexpr int kChunkXBytes = kChunkBytes / Format::kValueBytes * 2;
  const uint8_t* x_lane = shared + plan.x_offset + place.group * plan.x_row_bytes +
                          place.warp * kChunkXBytes + place.quad * 16 * kXLoads;
  const bool has_token = place.group < params.num_rows;
  int slot = 0;
  for (int phase = 0; phase < plan.num_phases; ++phase) {
    if (phase > 0) __syncthreads();
    input.Run(phase);
    int in_group = 0;
    for (int tile = first_tile; tile < last_tile; ++tile) {
      const bool last = tile + 1 == last_tile;
      float sums[2][4] = {};
      const uint8_t* x = x_lane;
      for (int step = 0; step < steps; ++step) {
        if (step == trigger_step && last && phase + 1 == plan.num_phases) {
          cudaTriggerProgrammaticLaunchCompletion();
        }
        StreamWait<kDepth - 1>();
        const uint4* from = ring + slot * kThreads * 4;
        const uint4 w[4] = {from[0], from[kThreads], from[2 * kThreads], from[3 * kThreads]};
        // The loads above are issued first, and this takes a trip to memory: the slot is read in time.
        stream.Load(ring_address + slot * kThreads * 64);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          uint4 operand[kXLoads] = {};
          if (has_token) {
#pragma unroll
            for (int i = 0; i < kXLoads; ++i) {
              operand[i] = *reinterpret_cast<const uint4*>(x + half * (kChunkXBytes / 2) + i * 16);
            }
          }
          Format::Multiply(sums[half], w[half], w[2 + half], operand);
        }
        slot = slot + 1 == kDepth ? 0 : slot + 1;
        x += kWarps * kChunkXBytes;
      }
      KeepPartial(sums, params.num_rows, phase > 0, partial + in_group * tile_floats);
      ++in_group;
      if (phase + 1 == plan.num_phases && (in_group == plan.group_tiles || last)) {
        __syncthreads();
        FinishTiles<T, kWarps>(params, plan, first_tile, tile + 1 - in_group, in_group, rows,
                               shared);
        if (!last) __syncthreads();
        in_group = 0;
      }
    }
  }
}

template <typename T, typename Format>
cudaError_t LaunchFormat(const GemvParams& params, const GemvConfig& config, const GemvPlan& plan,
                         LaunchContext& context) {
  const LaunchShape shape{.grid = dim3(static_cast<unsigned>(plan.num_blocks)),
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
                           : launch(GemvKernel<T, Format, 8, 5>);
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
  return config.warps == 8 && (config.depth == 4 || config.depth == 5);
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
  return SupportsConfig(config) && MakeGemvPlan(params, config, num_sms, &plan);
}

cudaError_t Gemv(const GemvParams& params, const GemvConfig& config, LaunchContext& context) {
  GemvPlan plan;
  if (!SupportsGemv(params, config, context.num_sms) ||
      !MakeGemvPlan(params, config, context.num_sms, &plan)) {
    return cudaErrorInvalidValue;
  }
  if (params.dtype == Element::kBFloat16) {
    return LaunchDtype<__nv_bfloat16, MmaBFloat16>(params, config, plan, context);
  }
  return LaunchDtype<__half, MmaFloat16>(params, config, plan, context);
}

}  // namespace trireme::cuda
