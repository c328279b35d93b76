// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/paged_attention_plan.h"

#include "device/cuda/launch.cuh"
#include "kernels/cuda/paged_attention_rows.cuh"

namespace trireme::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kWarps = kThreads / 32;

template <typename T>
T* Place(char* base, int64_t& offset, int64_t count) {
  T* table = reinterpret_cast<T*>(base + offset);
  offset += (count * static_cast<int64_t>(sizeof(T)) + 255) / 256 * 256;
  return table;
}

// The sum of `x` over all threads before this one; `total` over all. Every thread calls it.
__device__ int ExclusiveScan(int x, int* warp_sums, int& total) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  int sum = x;
  for (int delta = 1; delta < 32; delta *= 2) {
    const int below = __shfl_up_sync(0xffffffffu, sum, delta);
    if (lane >= delta) sum += below;
  }
  if (lane == 31) warp_sums[warp] = sum;
  __syncthreads();
  int before = 0;
  total = 0;
  for (int w = 0; w < kWarps; ++w) {
    if (w == warp) before = total;
    total += warp_sums[w];
  }
  __syncthreads();
  return before + sum - x;
}

struct PlanArgs {
  const StepCounts* counts;
  const int32_t* cu_query_lens;
  const int32_t* context_lens;
  AttentionPlan plan;
  int window;
};

// Lays each sequence's decode tiles and prefill tiles end to end.
__device__ void CountTiles(const PlanArgs& p, int num_seqs, int* warp_sums, int& decode_tiles,
                           int& prefill_tiles) {
  for (int first = 0; first < num_seqs; first += kThreads) {
    const int seq = first + static_cast<int>(threadIdx.x);
    int decode = 0;
    SequenceRows s = {};
    if (seq < num_seqs) {
      s = RowsOf(p.cu_query_lens, p.context_lens, seq, p.plan.group, p.window);
      s.prefills = p.plan.prefill_only;
      if (s.decodes()) decode = s.decode_tiles() * p.plan.units;
    }
    const int tiles = s.decodes() ? 0 : (s.rows + kPrefillRows - 1) / kPrefillRows;
    int total = 0;
    const int decode_before = decode_tiles + ExclusiveScan(decode, warp_sums, total);
    decode_tiles += total;
    if (seq < num_seqs) p.plan.tile_offsets[seq] = decode_before;
    const int prefill_before = prefill_tiles + ExclusiveScan(tiles, warp_sums, total);
    prefill_tiles += total;
    for (int tile = 0; tile < tiles; ++tile) {
      const int row = tile * kPrefillRows;
      const int last = min(row + kPrefillRows, s.rows) - 1;
      p.plan.unsorted_tiles[prefill_before + tile] = {seq, row, s.num_tiles(row, last, kKeyTile),
                                                      0};
    }
  }
  __syncthreads();
}

// The last sequence whose tiles begin at or before `tile` and that has any.
__device__ int SequenceOfTile(const int32_t* offsets, int num_seqs, int tile) {
  int low = 0;
  int high = num_seqs;  // invariant: offsets[low] <= tile, and > tile from high on
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (offsets[middle] <= tile) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

// Where a share begins: the sequence, its item and the item's key tile.
struct DecodePlace {
  SequenceRows s;
  int seq;
  int unit;
  int tile;
  int item;   // its tiles
  int tiles;  // of all before the share
};

__device__ DecodePlace BeginOfWorker(const PlanArgs& p, int num_seqs, int worker, int workers,
                                     int tiles) {
  DecodePlace place;
  place.tiles = FirstTileOfWorker(worker, workers, tiles);
  place.seq = SequenceOfTile(p.plan.tile_offsets, num_seqs, min(place.tiles, tiles - 1));
  place.s = RowsOf(p.cu_query_lens, p.context_lens, place.seq, p.plan.group, p.window);
  place.item = place.s.decode_tiles();
  const int offset = place.tiles - p.plan.tile_offsets[place.seq];
  place.unit = offset / place.item;
  place.tile = offset - place.unit * place.item;
  if (place.tile > 0 && int64_t{place.item} * kWholeItemsPerShare * workers <= tiles) {
    // To the nearer end of the item.
    place.tiles += 2 * place.tile < place.item ? -place.tile : place.item - place.tile;
    place.unit += 2 * place.tile < place.item ? 0 : 1;
    place.tile = 0;
  }
  if (place.unit == p.plan.units && place.tiles < tiles) {
    place.seq = SequenceOfTile(p.plan.tile_offsets, num_seqs, place.tiles);
    place.s = RowsOf(p.cu_query_lens, p.context_lens, place.seq, p.plan.group, p.window);
    place.item = place.s.decode_tiles();
    place.unit = 0;
  }
  return place;
}

// begins: room for all workers and one more.
__device__ void ShareOutDecode(const PlanArgs& p, int num_seqs, int tiles, int* begins) {
  const int warps = p.plan.max_workers / p.plan.max_blocks;
  const int items = num_seqs * p.plan.units;
  const int tiles_of_block = kMinTilesPerWorker * warps;
  const bool alone = tiles <= int64_t{items} * kMaxTilesAlone * warps;
  const int wanted = alone ? items : (tiles + tiles_of_block - 1) / tiles_of_block;
  const int workers = min(tiles, min(wanted, p.plan.max_blocks) * warps);
  for (int w = static_cast<int>(threadIdx.x); w < p.plan.max_workers; w += kThreads) {
    DecodeWorker worker = {};
    if (w < workers) {
      const DecodePlace begin = BeginOfWorker(p, num_seqs, w, workers, tiles);
      begins[w] = begin.tiles;
      worker.seq = begin.seq;
      worker.unit = begin.unit;
      worker.tile = begin.tile;
      worker.first_token = begin.s.first_token;
      worker.context = begin.s.context;
      worker.query_len = begin.s.query_len;
      // Shares within an item begin where FirstTileOfWorker says.
      const int item_begin = begin.tiles - begin.tile;
      worker.first_worker = WorkerOfTile(item_begin, workers, tiles);
      worker.last_worker = WorkerOfTile(item_begin + begin.item - 1, workers, tiles);
    }
    p.plan.workers[w] = worker;
  }
  if (threadIdx.x == 0) begins[workers] = tiles;
  __syncthreads();
  for (int w = static_cast<int>(threadIdx.x); w < workers; w += kThreads) {
    p.plan.workers[w].num_tiles = begins[w + 1] - begins[w];
  }
  for (int i = static_cast<int>(threadIdx.x); i < num_seqs * p.plan.units; i += kThreads) {
    p.plan.arrivals[i] = 0;
  }
}

// The longest work first, so that no long tile starts when the others have finished. A tile's place
// is the number of tiles that come before it.
__device__ void SortPrefill(const PlanArgs& p, int tiles, int* costs) {
  if (threadIdx.x == 0) p.plan.totals->prefill_tiles = tiles;
  const int thread = static_cast<int>(threadIdx.x);
  for (int first = 0; first < tiles; first += kThreads) {
    const int i = first + thread;
    const PrefillTile tile = i < tiles ? p.plan.unsorted_tiles[i] : PrefillTile{};
    int rank = 0;
    for (int other = 0; other < tiles; other += kThreads) {
      __syncthreads();
      costs[thread] = other + thread < tiles ? p.plan.unsorted_tiles[other + thread].key_tiles : -1;
      __syncthreads();
#pragma unroll 16
      for (int j = 0; j < kThreads; ++j) {
        const bool before =
            costs[j] > tile.key_tiles || (costs[j] == tile.key_tiles && other + j < i);
        rank += before ? 1 : 0;
      }
    }
    if (i < tiles) p.plan.prefill_tiles[rank] = tile;
  }
}

__global__ void PlanPagedAttentionKernel(const __grid_constant__ PlanArgs p) {
  __shared__ int warp_sums[kWarps];
  __shared__ int costs[kThreads];
  __shared__ int begins[kMaxDecodeBlocks * DecodeWarps(0) + 1];
  cudaGridDependencySynchronize();
  const int num_seqs = p.counts->num_seqs;
  int decode_tiles = 0;
  int prefill_tiles = 0;
  CountTiles(p, num_seqs, warp_sums, decode_tiles, prefill_tiles);
  if (threadIdx.x == 0) p.plan.tile_offsets[num_seqs] = decode_tiles;
  ShareOutDecode(p, num_seqs, decode_tiles, begins);
  SortPrefill(p, prefill_tiles, costs);
}

}  // namespace

AttentionPlan LayOutPlan(const PagedAttentionParams& p, const LaunchContext& context) {
  AttentionPlan plan = {};
  const int64_t max_seqs = p.step.max_seqs;
  plan.group = p.num_heads / p.kv.num_kv_heads;
  plan.row_groups = (plan.group + kDecodeRows - 1) / kDecodeRows;
  plan.units = p.kv.num_kv_heads * plan.row_groups;
  plan.max_blocks = context.num_sms < kMaxDecodeBlocks ? context.num_sms : kMaxDecodeBlocks;
  plan.max_workers = plan.max_blocks * DecodeWarps(p.kv.head_dim);
  // Every sequence that is not decoding has kDecodeRows rows at least; a sequence ends with a part
  // of a tile.
  const int64_t rows = int64_t{p.step.max_tokens} * plan.group;
  plan.max_prefill_tiles = p.step.max_query > 1 || p.batch_invariant
                               ? static_cast<int>(rows / kPrefillRows + max_seqs)
                               : 0;
  plan.prefill_only = p.batch_invariant;
  char* base = static_cast<char*>(p.workspace);
  int64_t offset = 0;
  plan.totals = Place<AttentionTotals>(base, offset, 1);
  plan.tile_offsets = Place<int32_t>(base, offset, max_seqs + 1);
  plan.workers = Place<DecodeWorker>(base, offset, plan.max_workers);
  plan.arrivals = Place<int32_t>(base, offset, max_seqs * plan.units);
  plan.unsorted_tiles = Place<PrefillTile>(base, offset, plan.max_prefill_tiles);
  plan.prefill_tiles = Place<PrefillTile>(base, offset, plan.max_prefill_tiles);
  const int64_t partial_rows = int64_t{2} * (plan.max_workers + plan.max_blocks) * kDecodeRows;
  plan.partial_sums = Place<float>(base, offset, partial_rows * 2);
  plan.partials = Place<float>(base, offset, partial_rows * p.kv.head_dim);
  plan.bytes = offset;
  return plan;
}

int64_t PagedAttentionWorkspaceBytes(const PagedAttentionParams& params,
                                     const LaunchContext& context) {
  return LayOutPlan(params, context).bytes;
}

cudaError_t PlanPagedAttention(const PagedAttentionParams& p, LaunchContext& context) {
  if (p.num_heads <= 0 || p.kv.num_kv_heads <= 0 || p.num_heads % p.kv.num_kv_heads != 0 ||
      p.workspace == nullptr || p.step.max_seqs <= 0) {
    return cudaErrorInvalidValue;
  }
  const PlanArgs args = {p.step.counts, p.step.cu_query_lens, p.step.context_lens,
                         LayOutPlan(p, context), p.window};
  const LaunchShape shape{.grid = dim3(1), .block = dim3(kThreads)};
  return Launch(context, "PlanPagedAttention", shape, PlanPagedAttentionKernel, args);
}

}  // namespace trireme::cuda
