// SPDX-License-Identifier: Apache-2.0
// What the two kernels of sampling share: order keys of floats, the partial results of a chunk of
// logits, the processed value of a logit, and where the workspace holds what.
#pragma once

#include <math_constants.h>

#include "kernels/cuda/sampling.h"

namespace trireme::cuda {

constexpr int kScanThreads = 256;
constexpr int kChunk = 4096;       // logits of one thread block of the scan
constexpr int kSampleBlock = 128;  // logits that share one maximum
constexpr int kMaxChunks = 128;    // of a row: vocabularies up to 524,288
constexpr int kMaxBlocks = kMaxChunks * (kChunk / kSampleBlock);

// A chunk of a row.
struct ChunkResult {
  float max;      // of the processed logits
  int32_t token;  // the first that has it
  float mass;     // sum of exp(x - max)
  int32_t flags;
};

struct SampleWorkspace {
  ChunkResult* chunks;  // [max_rows, num_chunks]
  float* maxima;        // [max_rows, num_chunks * kChunk / kSampleBlock]
  float* values;        // [max_rows, values_stride] processed logits of rows that need them
  int num_chunks;
  int num_blocks;  // with logits in them
  int64_t maxima_stride;
  int64_t values_stride;
};

inline int64_t RoundUp256(int64_t bytes) { return (bytes + 255) / 256 * 256; }

inline SampleWorkspace SplitWorkspace(void* base, int vocab_size, int max_rows, int64_t* bytes) {
  SampleWorkspace w = {};
  w.num_chunks = (vocab_size + kChunk - 1) / kChunk;
  w.num_blocks = (vocab_size + kSampleBlock - 1) / kSampleBlock;
  w.maxima_stride = int64_t{w.num_chunks} * (kChunk / kSampleBlock);
  w.values_stride = (int64_t{vocab_size} + 3) / 4 * 4;
  const int64_t rows = max_rows;
  const int64_t maxima_at = RoundUp256(rows * w.num_chunks * int64_t{sizeof(ChunkResult)});
  const int64_t values_at = maxima_at + RoundUp256(rows * w.maxima_stride * 4);
  *bytes = values_at + RoundUp256(rows * w.values_stride * 4);
  char* at = static_cast<char*>(base);
  w.chunks = reinterpret_cast<ChunkResult*>(at);
  w.maxima = reinterpret_cast<float*>(at + maxima_at);
  w.values = reinterpret_cast<float*>(at + values_at);
  return w;
}

// Larger floats have larger keys; -0 must have been made +0, NaN must be gone.
__device__ inline uint32_t OrderKey(float x) {
  const uint32_t bits = __float_as_uint(x);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
__device__ inline float FromOrderKey(uint32_t key) {
  return __uint_as_float(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}

__device__ inline bool IsGreedy(const SlotSampling& s) {
  return s.top_k == 1 || (s.top_k <= 0 && s.top_p <= 0.0f);
}
__device__ inline bool HasBans(const SlotSampling& s) {
  return s.num_bad_words > 0 || s.no_repeat_ngram_size > 0 ||
         (s.num_end_ids > 0 && s.num_tokens - s.num_prompt < s.min_tokens);
}
// The scan leaves the row's processed logits in the workspace.
__device__ inline bool IsProcessed(const SlotSampling& s) {
  return s.bias != nullptr || s.penalties != 0 || HasBans(s);
}
__device__ inline float Divisor(const SlotSampling& s) {
  return s.temperature == 1.0f ? 0.0f : s.temperature + 1e-6f;
}

// NaN to -inf, -0 to +0.
__device__ inline float Ordered(float x) { return isnan(x) ? -CUDART_INF_F : __fadd_rn(x, 0.0f); }

// Reads processed logits, wherever they lie.
struct RowValues {
  const float* source;
  float divisor;  // 0: none, or applied already

  __device__ float operator()(int i) const {
    const float x = source[i];
    return Ordered(divisor == 0.0f ? x : __fdiv_rn(x, divisor));
  }
};

}  // namespace trireme::cuda
