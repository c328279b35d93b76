// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/decode_region_plan.h"

#include <algorithm>

namespace trireme::cuda {
namespace {

constexpr int kMaxSharedBytes = 227 * 1024;
constexpr int kMinSlots = kRegionWarps;  // a warp's next chunk is at most once round the ring away
constexpr int kMaxNormSize =
    8 * 8 * kRegionWarps * 32;   // values that the threads hold between them
constexpr int kWarpBytes = 512;  // of a row that a warp takes at once

int CeilDiv(int a, int b) { return (a + b - 1) / b; }
int RoundUp(int a, int multiple) { return CeilDiv(a, multiple) * multiple; }

// Shared memory of an attention item: queries, new key and value, sums of each warp.
int AttentionBytes(const DecodeRegionParams& p, const DecodeRegionPlan& plan) {
  const int head_dim = p.kv.head_dim;
  return (kRegionHeads * head_dim + kRegionWarps * plan.partial_floats) * 4 + 2 * head_dim * 2;
}

RegionProduct MakeProduct(int out, int in, bool gated, bool fp8, const DecodeRegionConfig& config,
                          int num_blocks, int first_longer) {
  RegionProduct product;
  product.gated = gated;
  product.in_features = in;
  product.out_features = out;
  product.row_bytes = in * (fp8 ? 1 : 2);
  product.parts = CeilDiv(product.row_bytes, config.slot_bytes / 2);
  product.part_bytes = product.row_bytes;
  if (product.parts > 1) {
    product.part_bytes = RoundUp(CeilDiv(product.row_bytes, product.parts), kWarpBytes);
    product.parts = CeilDiv(product.row_bytes, product.part_bytes);
  }
  const int64_t row_bytes = product.row_bytes;
  product.pair_bytes = gated ? row_bytes : 2 * row_bytes;
  product.second_bytes = gated ? out * row_bytes : row_bytes;
  const int pairs = gated ? out : out / 2;
  product.block_pairs = pairs / num_blocks;
  product.longer_blocks = pairs % num_blocks;
  product.first_longer = first_longer;
  return product;
}

// The kernel is compiled for these.
bool SupportedRows(int rows) { return rows == 1 || rows == 2 || rows == kMaxRegionRows; }

bool SupportedSizes(const DecodeRegionParams& p) {
  const bool fp8 = p.weight == Element::kFloat8E4M3;
  const int in_multiple = fp8 ? 16 : 8;
  const int kv_heads = p.kv.num_kv_heads;
  const int head_dim = p.kv.head_dim;
  if (p.num_layers < 1 || !SupportedRows(p.num_rows)) return false;
  if (kv_heads < 1 || p.num_heads < 1 || p.num_heads % kv_heads != 0) return false;
  if (head_dim < 16 || head_dim > 256 || (head_dim & (head_dim - 1)) != 0) return false;
  if (p.hidden_size < 1 || p.hidden_size % in_multiple != 0) return false;
  if (p.hidden_size > kMaxNormSize) return false;
  if (p.intermediate_size < 1 || p.intermediate_size % in_multiple != 0) return false;
  const int block_size = p.kv.block_size;
  if (block_size < 1 || (block_size & (block_size - 1)) != 0) return false;
  const bool rotary = p.style != RotaryStyle::kNone;
  return !rotary || (p.rotary_dim > 0 && p.rotary_dim % 2 == 0 && p.rotary_dim <= head_dim);
}

void ShareAttention(const DecodeRegionParams& p, DecodeRegionPlan* plan) {
  const int kv_heads = p.kv.num_kv_heads;
  plan->head_blocks = CeilDiv(p.num_heads / kv_heads, kRegionHeads);
  const int groups = p.num_rows * kv_heads * plan->head_blocks;
  plan->max_splits = std::max(1, plan->num_blocks / groups);
  const int most_groups = kMaxRegionRows * kv_heads * plan->head_blocks;
  const int most_items = std::max(most_groups, plan->num_blocks);
  plan->partial_floats = kRegionHeads * (p.kv.head_dim + 2);
  plan->partials_offset = kRegionDoneOffset + RoundUp(most_groups * 4, 256);
  plan->workspace_bytes = plan->partials_offset + int64_t{most_items} * plan->partial_floats * 4;
}

}  // namespace

bool MakeDecodeRegionPlan(const DecodeRegionParams& p, const DecodeRegionConfig& config,
                          int num_sms, DecodeRegionPlan* plan) {
  if (num_sms < 1 || config.slot_bytes < 1024 || config.slot_bytes % 1024 != 0) return false;
  if (config.chunks_in_flight < 1) return false;
  if (!SupportedSizes(p)) return false;
  *plan = {};
  plan->num_blocks = num_sms;
  plan->slot_bytes = config.slot_bytes;
  const int q_width = p.num_heads * p.kv.head_dim;
  const int qkv_width = q_width + 2 * p.kv.num_kv_heads * p.kv.head_dim;
  const struct {
    int out, in;
    bool gated;
  } shapes[kRegionProducts] = {{qkv_width, p.hidden_size, false},
                               {p.hidden_size, q_width, false},
                               {p.intermediate_size, p.hidden_size, true},
                               {p.hidden_size, p.intermediate_size, false}};
  int sum_floats = 0;
  int widest = 0;
  for (int i = 0; i < kRegionProducts; ++i) {
    plan->products[i] =
        MakeProduct(shapes[i].out, shapes[i].in, shapes[i].gated, p.weight == Element::kFloat8E4M3,
                    config, num_sms, plan->layer_shift);
    const RegionProduct& product = plan->products[i];
    plan->layer_shift = (plan->layer_shift + product.longer_blocks) % num_sms;
    const int most_pairs = product.block_pairs + (product.longer_blocks > 0 ? 1 : 0);
    sum_floats = std::max(sum_floats, most_pairs * product.parts * 2 * p.num_rows);
    widest = std::max(widest, product.in_features);
  }
  ShareAttention(p, plan);

  plan->x_row_bytes = RoundUp(widest * 2, 16);
  const int x_bytes =
      RoundUp(std::max(p.num_rows * plan->x_row_bytes, AttentionBytes(p, *plan)), 16);
  const int squares_bytes = RoundUp(kRegionWarps * p.num_rows * 4, 16);
  const int item_bytes =
      RoundUp(static_cast<int>(sizeof(RegionItem)) + (kRegionHeldBlocks + p.kv.head_dim) * 4, 16);
  const int rest = x_bytes + RoundUp(sum_floats * 4, 16) + squares_bytes + item_bytes;
  plan->slots = (kMaxSharedBytes - rest) / (config.slot_bytes + 16);
  if (plan->slots < kMinSlots) return false;
  plan->chunks_in_flight = std::min(config.chunks_in_flight, plan->slots);
  plan->x_offset = plan->slots * config.slot_bytes;
  plan->partial_offset = plan->x_offset + x_bytes;
  plan->squares_offset = plan->partial_offset + RoundUp(sum_floats * 4, 16);
  plan->item_offset = plan->squares_offset + squares_bytes;
  plan->barriers_offset = plan->item_offset + item_bytes;
  plan->shared_bytes = plan->barriers_offset + plan->slots * 16;
  return true;
}

}  // namespace trireme::cuda
