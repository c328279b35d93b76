// SPDX-License-Identifier: Apache-2.0
// Partial results of decode items, in the workspace, and their sums. One warp at a time.
#pragma once

#include "kernels/cuda/paged_attention_items.cuh"

namespace trireme::cuda {

// The slots of neighbours' parts of one item.
struct PartSlots {
  int first;  // slot of the first neighbour for items that began before it
  int parts;
  bool begins;  // the item begins with the first
  __device__ int of(int part) const { return first + 2 * part + (begins && part == 0 ? 1 : 0); }
};

template <int kRows>
struct PartialSums {
  static constexpr int kSharedBytes = (kMaxDecodeBlocks + 1) * kRows * 8;

  const AttentionArgs& a;
  DecodePiece piece;  // of the item whose parts are summed
  int rows;
  int lane;
  float2* shared;  // [kRows][kMaxDecodeBlocks] maximum and sum, then weight, of a part's row
  float2* totals;  // [kRows] of all parts: maximum and sum

  __device__ PartialSums(const AttentionArgs& args, const DecodePiece& of, int lane_index,
                         unsigned char* shared_bytes)
      : a(args),
        piece(of),
        rows(min(kDecodeRows, of.s.rows - of.row0)),
        lane(lane_index),
        shared(reinterpret_cast<float2*>(shared_bytes)),
        totals(shared + kRows * kMaxDecodeBlocks) {}

  __device__ static int64_t RowOf(int slot, int row) { return int64_t{slot} * kDecodeRows + row; }

  // What each part of each row counts for. Some lanes a row, which take parts in turn.
  __device__ void Weigh(const PartSlots& slots) const {
    constexpr int kLanes = 32 / kRows;
    constexpr int kLoads = 4;
    const int row = lane / kLanes;
    const int parts = row < rows ? slots.parts : 0;
    float2* mine = shared + row * kMaxDecodeBlocks;
    float top = -INFINITY;
#pragma unroll 1
    for (int first = lane % kLanes; first < parts; first += kLoads * kLanes) {
      float2 x[kLoads];
#pragma unroll
      for (int i = 0; i < kLoads; ++i) {
        const int part = min(first + i * kLanes, parts - 1);
        x[i] = __ldcg(
            reinterpret_cast<const float2*>(a.plan.partial_sums + RowOf(slots.of(part), row) * 2));
      }
#pragma unroll
      for (int i = 0; i < kLoads; ++i) {
        if (first + i * kLanes < parts) mine[first + i * kLanes] = x[i];
        top = fmaxf(top, x[i].x);
      }
    }
    for (int delta = kLanes / 2; delta > 0; delta /= 2) {
      top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, delta));
    }
    float sum = 0.0f;
#pragma unroll 1
    for (int part = lane % kLanes; part < parts; part += kLanes) {
      const float weight = mine[part].x == -INFINITY ? 0.0f : Exp2(mine[part].x - top);
      sum += weight * mine[part].y;
      mine[part].x = weight;
    }
    for (int delta = kLanes / 2; delta > 0; delta /= 2) {
      sum += __shfl_xor_sync(0xffffffffu, sum, delta);
    }
    if (lane % kLanes == 0) totals[row] = float2{top, sum};
    __syncwarp();
  }

  // Rows [row, row + 4) of the elements [dim, dim + 4): many loads are under way at once.
  __device__ void AddRows(const PartSlots& slots, int row, int dim, float (&x)[4][4]) const {
#pragma unroll 1
    for (int first = 0; first < slots.parts; first += 4) {
      float4 loaded[4][4];
      float weights[4][4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
#pragma unroll
        for (int r = 0; r < 4; ++r) {
          const bool exists = row + r < rows && first + j < slots.parts;
          loaded[j][r] = float4{0.0f, 0.0f, 0.0f, 0.0f};
          weights[j][r] = 0.0f;
          if (!exists) continue;
          weights[j][r] = shared[(row + r) * kMaxDecodeBlocks + first + j].x;
          loaded[j][r] = __ldcg(reinterpret_cast<const float4*>(
              a.plan.partials + RowOf(slots.of(first + j), row + r) * a.p.kv.head_dim + dim));
        }
      }
#pragma unroll
      for (int j = 0; j < 4; ++j) {
#pragma unroll
        for (int r = 0; r < 4; ++r) {
          x[r][0] += loaded[j][r].x * weights[j][r];
          x[r][1] += loaded[j][r].y * weights[j][r];
          x[r][2] += loaded[j][r].z * weights[j][r];
          x[r][3] += loaded[j][r].w * weights[j][r];
        }
      }
    }
  }

  // The sum of the parts: the result, or with a slot (not -1) a partial result.
  __device__ void Add(const PartSlots& slots, int target) const {
    Weigh(slots);
#pragma unroll 1
    for (int row = 0; row < rows; row += 4) {
#pragma unroll 1
      for (int dim = lane * 4; dim < a.p.kv.head_dim; dim += 128) {
        float x[4][4] = {};
        AddRows(slots, row, dim, x);
#pragma unroll
        for (int r = 0; r < 4; ++r) {
          if (row + r < rows) StoreRow(row + r, dim, x[r], target);
        }
      }
    }
    if (target >= 0 && lane < rows) {
      __stcg(reinterpret_cast<float2*>(a.plan.partial_sums + RowOf(target, lane) * 2),
             totals[lane]);
    }
    __syncwarp();
  }

  __device__ void StoreRow(int row, int dim, const float (&x)[4], int target) const {
    if (target >= 0) {
      __stcg(
          reinterpret_cast<float4*>(a.plan.partials + RowOf(target, row) * a.p.kv.head_dim + dim),
          float4{x[0], x[1], x[2], x[3]});
      return;
    }
    const float factor = __fdividef(a.p.kv.v_scale, totals[row].y);
    *reinterpret_cast<uint2*>(static_cast<uint16_t*>(a.p.out) + OutputOf(a, piece, row) + dim) =
        uint2{PackElements(a.p.dtype, x[0] * factor, x[1] * factor),
              PackElements(a.p.dtype, x[2] * factor, x[3] * factor)};
  }

  // Sums the item's parts of this block's workers up to `worker`, and where other blocks have some,
  // of all blocks if this one comes last.
  __device__ void Finish(const ItemParts& parts, int worker, int warps) const {
    const int block = worker / warps;
    const int first_block = parts.first_worker / warps;
    const int blocks = parts.last_worker / warps - first_block + 1;
    const int first = max(parts.first_worker, block * warps);
    const int block_slots = 2 * a.plan.max_workers;
    PartSlots slots = {2 * first, worker - first + 1, first == parts.first_worker};
    int target = block_slots + 2 * block + (block == first_block ? 1 : 0);
    if (blocks == 1) target = -1;
#pragma unroll 1
    while (true) {
      Add(slots, target);
      if (target < 0 || !Arrive(parts.item, blocks)) return;
      slots = {block_slots + 2 * first_block, blocks, true};
      target = -1;
    }
  }

  // Whether all blocks have their partial results of the item in the workspace.
  __device__ bool Arrive(int item, int blocks) const {
    __threadfence();
    __syncwarp();
    bool last = false;
    if (lane == 0) {
      last = atomicAdd(a.plan.arrivals + item, 1) == blocks - 1;
      if (last) a.plan.arrivals[item] = 0;
    }
    last = __shfl_sync(0xffffffffu, last ? 1 : 0, 0) != 0;
    __threadfence();
    return last;
  }
};

}  // namespace trireme::cuda
