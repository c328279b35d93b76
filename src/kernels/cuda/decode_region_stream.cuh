// SPDX-License-Identifier: Apache-2.0
// Device part of decode_region.cuh: the stream of weights through a block's ring, and the waits of
// the whole grid.
#pragma once

#include "kernels/cuda/decode_region_plan.h"
#include "kernels/cuda/gemv.cuh"
#include "kernels/cuda/wgmma.cuh"

namespace trireme::cuda {

// Copies a span of global memory to shared memory; both 16-byte aligned, bytes a multiple of 16.
__device__ inline void CopySpan(uint32_t target, const uint8_t* source, int bytes,
                                uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(target),
      "l"(source), "r"(bytes), "r"(barrier)
      : "memory");
}

// The pairs [first, first + count) of a block.
struct RegionSlice {
  int first;
  int count;
};

__device__ inline RegionSlice SliceOf(const DecodeRegionPlan& plan, const RegionProduct& product,
                                      int layer) {
  const int first_longer = (product.first_longer + layer * plan.layer_shift) % plan.num_blocks;
  int place = static_cast<int>(blockIdx.x) - first_longer;
  if (place < 0) place += plan.num_blocks;
  return {place * product.block_pairs + min(place, product.longer_blocks),
          product.block_pairs + (place < product.longer_blocks ? 1 : 0)};
}

__device__ inline const RegionLinear& LinearOf(const RegionLayer& layer, int product) {
  switch (product) {
    case 0: return layer.qkv;
    case 1: return layer.o;
    case 2: return layer.gate_up;
    default: return layer.down;
  }
}

// Goes through the block's chunks in the order of their use.
class ChunkCursor {
 public:
  __device__ ChunkCursor(const DecodeRegionParams& params, const DecodeRegionPlan& plan)
      : params_(params), plan_(plan) {
    Open();
  }

  __device__ bool done() const { return layer_ == params_.num_layers; }
  // The chunk: bytes() of each of two rows.
  __device__ const uint8_t* first() const { return pair_ + part_ * part_bytes_; }
  __device__ const uint8_t* second() const { return first() + second_bytes_; }
  __device__ int bytes() const { return min(part_bytes_, row_bytes_ - part_ * part_bytes_); }

  __device__ void Advance() {
    if (++part_ < parts_) return;
    part_ = 0;
    pair_ += pair_bytes_;
    if (--pairs_left_ > 0) return;
    NextProduct();
    Open();
  }

 private:
  __device__ void NextProduct() {
    if (++product_ < kRegionProducts) return;
    product_ = 0;
    ++layer_;
  }

  // The first product from here on in which the block has a share.
  __device__ void Open() {
    for (; !done(); NextProduct()) {
      const RegionProduct& product = plan_.products[product_];
      const RegionSlice slice = SliceOf(plan_, product, layer_);
      pairs_left_ = slice.count;
      if (slice.count == 0) continue;
      parts_ = product.parts;
      part_bytes_ = product.part_bytes;
      row_bytes_ = product.row_bytes;
      pair_bytes_ = product.pair_bytes;
      second_bytes_ = product.second_bytes;
      const auto* w = static_cast<const uint8_t*>(LinearOf(params_.layers[layer_], product_).w);
      pair_ = w + slice.first * pair_bytes_;
      return;
    }
  }

  const DecodeRegionParams& params_;
  const DecodeRegionPlan& plan_;
  int layer_ = 0;
  int product_ = 0;
  int pairs_left_ = 0;
  int part_ = 0;
  int parts_ = 0;
  int part_bytes_ = 0;
  int row_bytes_ = 0;
  int64_t pair_bytes_ = 0;
  int64_t second_bytes_ = 0;
  const uint8_t* pair_ = nullptr;
};

// The ring's places, by address in shared memory.
struct RegionRing {
  uint32_t slots;
  uint32_t barriers;
  int slot_bytes;
  int num_slots;

  __device__ uint32_t slot(int i) const { return slots + static_cast<uint32_t>(i * slot_bytes); }
  __device__ uint32_t full(int i) const { return barriers + static_cast<uint32_t>(i * 16); }
  __device__ uint32_t empty(int i) const { return full(i) + 8; }

  __device__ void Init() const {
    for (int i = 0; i < num_slots; ++i) {
      BarrierInit(full(i), 1);
      BarrierInit(empty(i), 1);
    }
    BarrierInitFence();
  }
};

// One thread: fills the ring whenever a slot is free, with no more copies under way than cover the
// memory's latency. What else the multiprocessor reads and writes queues behind them: with a whole
// ring under way, an output took 4 us to leave.
__device__ inline void StreamWeights(const DecodeRegionParams& params, const DecodeRegionPlan& plan,
                                     const RegionRing& ring) {
  int slot = 0;
  int phase = 0;
  int landing = -plan.chunks_in_flight;  // the slot whose copy must have landed; negative: none
  int landing_phase = 0;
  for (ChunkCursor chunk(params, plan); !chunk.done(); chunk.Advance()) {
    if (landing >= 0) BarrierWait(ring.full(landing), landing_phase);
    if (++landing == ring.num_slots) {
      landing = 0;
      landing_phase ^= 1;
    }
    BarrierWait(ring.empty(slot), phase ^ 1);
    const int bytes = chunk.bytes();
    BarrierExpect(ring.full(slot), 2 * bytes);
    CopySpan(ring.slot(slot), chunk.first(), bytes, ring.full(slot));
    CopySpan(ring.slot(slot) + ring.slot_bytes / 2, chunk.second(), bytes, ring.full(slot));
    if (++slot == ring.num_slots) {
      slot = 0;
      phase ^= 1;
    }
  }
}

__device__ inline void ComputeBarrier() { NamedBarrier(1, kRegionWarps * 32); }

// Waits of the computing warps of all blocks for one another. Arrivals are counted over the
// launches of a workspace, each of which adds the same number.
class GridBarrier {
 public:
  // After the predecessor's end. Blocks that are ahead may have arrived already, but not all.
  __device__ GridBarrier(unsigned long long* arrivals, int stages)
      : arrivals_(arrivals), num_blocks_(gridDim.x) {
    if (threadIdx.x != 0) return;
    const unsigned long long now = Load();
    target_ = now - now % (num_blocks_ * static_cast<unsigned>(stages));
  }

  // What the block has written is seen by all after their next Wait.
  __device__ void Arrive() {
    ComputeBarrier();
    if (threadIdx.x != 0) return;
    target_ += num_blocks_;
    asm volatile("red.release.gpu.global.add.u64 [%0], 1;" ::"l"(arrivals_) : "memory");
  }

  __device__ void Wait() const {
    if (threadIdx.x == 0) {
      // Some 20 s: all blocks are resident, so only a broken launch comes this far.
      for (int spins = 0; Load() < target_; ++spins) {
        if (spins == 1 << 25) __trap();
      }
    }
    ComputeBarrier();
  }

 private:
  __device__ unsigned long long Load() const {
    unsigned long long value;
    asm volatile("ld.acquire.gpu.global.u64 %0, [%1];" : "=l"(value) : "l"(arrivals_) : "memory");
    return value;
  }

  unsigned long long* arrivals_;
  unsigned num_blocks_;
  unsigned long long target_ = 0;
};

}  // namespace trireme::cuda
