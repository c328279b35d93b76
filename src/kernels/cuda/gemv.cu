// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/gemv.h"

#include "device/cuda/launch.cuh"
#include "kernels/cuda/gemv_input.cuh"
#include "kernels/cuda/gemv_plan.h"
#include "kernels/cuda/gemv_stream.cuh"

namespace trireme::cuda {
namespace {

constexpr int kTileRows = kGemvTileRows;
constexpr int kChunkBytes = kGemvChunkBytes;

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
// threads, so that other kernels' blocks can start beside it.
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
  switch (config.depth) {
    case 2: return launch(GemvKernel<T, Format, 16, 2>);
    case 3: return launch(GemvKernel<T, Format, 16, 3>);
    default: return launch(GemvKernel<T, Format, 8, 5>);
  }
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
  return config.warps == 8 && config.depth == 5;
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
