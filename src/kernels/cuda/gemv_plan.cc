// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/gemv_plan.h"

namespace trireme::cuda {
namespace {

constexpr int kMaxSharedBytes = 227 * 1024;
constexpr int kPartialBytes = 32 * 1024;
// Two blocks of one grid on a multiprocessor leave another one idle, and a dependent launch places
// them so wherever a predecessor has already left: with less, 124 us a layer of Llama-3.1-8B in BF16
// against 109. More than half of a multiprocessor's 228 KB, of which each block costs 1 KB more.
constexpr int kAloneBytes = 116 * 1024;

int CeilDiv(int a, int b) { return (a + b - 1) / b; }
int RoundUp16(int bytes) { return (bytes + 15) / 16 * 16; }

}  // namespace

bool MakeGemvPlan(const GemvParams& params, const GemvConfig& config, int num_sms, GemvPlan* plan) {
  const bool fp8 = params.weight == Element::kFloat8E4M3;
  const int chunk_values = kGemvChunkBytes / (fp8 ? 1 : 2);
  plan->num_tiles = CeilDiv(params.out_features, kGemvTileRows);
  plan->num_chunks = CeilDiv(params.in_features, chunk_values);
  plan->num_blocks = plan->num_tiles < num_sms ? plan->num_tiles : num_sms;
  plan->block_tiles = plan->num_tiles / plan->num_blocks;
  plan->longer_blocks = plan->num_tiles % plan->num_blocks;
  const int most_tiles = CeilDiv(plan->num_tiles, plan->num_blocks);
  plan->block_rows = most_tiles * kGemvTileRows;
  const int tile_bytes = config.warps * params.num_rows * kGemvTileRows * 4;
  const int fitting_tiles = kPartialBytes / tile_bytes;
  plan->group_tiles = fitting_tiles < most_tiles ? fitting_tiles : most_tiles;
  if (plan->group_tiles < 1) return false;

  plan->gamma_offset = config.depth * config.warps * 32 * 64;
  plan->bias_offset =
      plan->gamma_offset + (params.gamma != nullptr ? RoundUp16(params.in_features * 2) : 0);
  plan->residual_offset = plan->bias_offset + (params.bias != nullptr ? plan->block_rows * 2 : 0);
  plan->x_offset = plan->residual_offset +
                   (params.residual != nullptr ? params.num_rows * plan->block_rows * 2 : 0);
  const int squares_bytes = config.warps * 4;
  const int x_bytes =
      kMaxSharedBytes - plan->x_offset - plan->group_tiles * tile_bytes - squares_bytes;

  // Rows of x start 64 (16-bit weights) or 16 bytes (e4m3) further round the banks than the last, so
  // that the lanes of a load meet in no bank.
  const int padding = fp8 ? 16 : 64;
  const int whole = CeilDiv(plan->num_chunks, config.warps) * config.warps;
  const int fitting =
      (x_bytes / params.num_rows - padding) / (chunk_values * 2) / config.warps * config.warps;
  if (fitting < config.warps) return false;
  plan->phase_chunks = whole;
  if (fitting < whole) {
    // A norm needs whole rows of x; partial sums over phases need all tiles of the block.
    if (params.gamma != nullptr || plan->group_tiles < most_tiles) return false;
    const int phases = CeilDiv(whole, fitting);
    plan->phase_chunks = CeilDiv(CeilDiv(whole, phases), config.warps) * config.warps;
  }
  plan->num_phases = CeilDiv(plan->num_chunks, plan->phase_chunks);
  plan->x_row_bytes = plan->phase_chunks * chunk_values * 2 + padding;
  plan->partial_offset = plan->x_offset + params.num_rows * plan->x_row_bytes;
  plan->squares_offset = plan->partial_offset + plan->group_tiles * tile_bytes;
  const int used_bytes = plan->squares_offset + squares_bytes;
  plan->shared_bytes = used_bytes > kAloneBytes ? used_bytes : kAloneBytes;
  return plan->shared_bytes <= kMaxSharedBytes;
}

}  // namespace trireme::cuda
