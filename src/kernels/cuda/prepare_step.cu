// SPDX-License-Identifier: Apache-2.0
#include <cooperative_groups.h>

#include "device/cuda/launch.cuh"
#include "kernels/cuda/prepare_step.h"

namespace trireme::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kCluster = 8;            // portable maximum
constexpr int kTokensOfOneBlock = 64;  // a smaller bucket needs no cluster

// The sections of a packed step.
struct Packed {
  PackedStepHeader header;
  const PackedRow* rows;
  const int32_t* given;
  const PackedDelta* deltas;
};

__device__ Packed Unpack(const int32_t* words) {
  Packed packed;
  packed.header = *reinterpret_cast<const PackedStepHeader*>(words);
  packed.rows = reinterpret_cast<const PackedRow*>(words + sizeof(PackedStepHeader) / 4);
  packed.given = reinterpret_cast<const int32_t*>(packed.rows + packed.header.num_rows);
  packed.deltas = reinterpret_cast<const PackedDelta*>(packed.given + packed.header.num_given);
  return packed;
}

// The row whose queries hold token `token`.
__device__ int RowOfToken(const Packed& packed, int token) {
  int low = 0;
  int high = packed.header.num_rows;  // first_query of low <= token < first_query of high
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (packed.rows[middle].first_query <= token) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

__device__ int QueryEnd(const Packed& packed, int row) {
  return row + 1 < packed.header.num_rows ? packed.rows[row + 1].first_query
                                          : packed.header.num_tokens;
}

__device__ void ExpandToken(const PrepareStepParams& p, const Packed& packed, int token) {
  if (token >= packed.header.num_tokens) {
    p.token_ids[token] = 0;
    p.positions[token] = 0;
    p.token_seqs[token] = -1;
    return;
  }
  const int row = RowOfToken(packed, token);
  const PackedRow& r = packed.rows[row];
  const int query = token - r.first_query;
  p.token_ids[token] =
      r.first_given < 0 ? p.last_tokens[r.slot] : packed.given[r.first_given + query];
  p.positions[token] = r.context_len + query;
  p.token_seqs[token] = row;
  const int logit = query - (QueryEnd(packed, row) - r.first_query - r.num_logit_rows);
  if (logit >= 0) p.logit_rows[r.first_logit_row + logit] = token;
}

__device__ void ExpandRow(const PrepareStepParams& p, const Packed& packed, int row) {
  if (row >= packed.header.num_rows) {
    p.cu_query_lens[row + 1] = packed.header.num_tokens;
    p.context_lens[row] = 0;
    return;
  }
  p.cu_query_lens[row + 1] = QueryEnd(packed, row);
  p.context_lens[row] = packed.rows[row].context_len;
}

// The thread blocks of one cluster share the work.
__global__ void PrepareStepKernel(const __grid_constant__ PrepareStepParams p) {
  cudaTriggerProgrammaticLaunchCompletion();
  cudaGridDependencySynchronize();
  const Packed packed = Unpack(p.packed);
  const PackedStepHeader& header = packed.header;
  const int thread = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  const int num_threads = static_cast<int>(gridDim.x) * kThreads;

  for (int i = thread; i < header.num_deltas; i += num_threads) {
    const PackedDelta delta = packed.deltas[i];
    p.slot_block_tables[int64_t{delta.slot} * p.block_table_stride + delta.index] = delta.block;
  }
  if (thread == 0) {
    *p.counts = {header.num_tokens, header.num_rows, header.num_logit_rows, header.max_query_len};
    p.cu_query_lens[0] = 0;
  }
  for (int i = thread; i < p.max_tokens; i += num_threads) ExpandToken(p, packed, i);
  for (int i = thread; i < p.max_seqs; i += num_threads) ExpandRow(p, packed, i);
  for (int i = header.num_logit_rows + thread; i < p.max_logit_rows; i += num_threads) {
    p.logit_rows[i] = 0;
  }
  cooperative_groups::this_cluster().sync();  // the deltas are in the tables

  const int lane = thread % 32;
  for (int row = thread / 32; row < header.num_rows; row += num_threads / 32) {
    const PackedRow& r = packed.rows[row];
    const int seq_len = r.context_len + QueryEnd(packed, row) - r.first_query;
    const int num_blocks = (seq_len + p.block_size - 1) / p.block_size;
    // Written by other blocks of the cluster just now: not through the read-only path.
    const volatile int32_t* source = p.slot_block_tables + int64_t{r.slot} * p.block_table_stride;
    int32_t* target = p.block_tables + int64_t{row} * p.block_table_stride;
    for (int i = lane; i < num_blocks; i += 32) target[i] = source[i];
  }
}

}  // namespace

cudaError_t PrepareStep(const PrepareStepParams& params, LaunchContext& context) {
  if (params.max_tokens <= 0 || params.max_seqs <= 0 || params.block_size <= 0 ||
      params.block_table_stride <= 0) {
    return cudaErrorInvalidValue;
  }
  const int blocks = params.max_tokens > kTokensOfOneBlock ? kCluster : 1;
  const LaunchShape shape{
      .grid = dim3(static_cast<unsigned>(blocks)), .block = dim3(kThreads), .cluster = blocks};
  return Launch(context, "PrepareStep", shape, PrepareStepKernel, params);
}

}  // namespace trireme::cuda
