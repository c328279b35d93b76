// SPDX-License-Identifier: Apache-2.0
// The pass over the logits, the loading of slots, and the launchers; sampling_choose.cuh chooses.
#include "kernels/cuda/sampling.h"

#include "device/cuda/launch.cuh"
#include "kernels/cuda/rows.cuh"
#include "kernels/cuda/sampling_choose.cuh"
#include "kernels/cuda/sampling_row.cuh"

namespace trireme::cuda {
namespace {

constexpr int kLoadThreads = 512;
constexpr int kPerThread = kChunk / kScanThreads;
constexpr int kScanBlocksPerSm = 4;  // enough loads in flight to fill the memory's pipe
constexpr unsigned kAllLanes = 0xffffffffu;

// --- Slots ---

__global__ void LoadSlotsKernel(const __grid_constant__ LoadSlotsParams p) {
  cudaGridDependencySynchronize();
  const StagedSlot& staged = p.staged[blockIdx.x];
  const SlotSampling& state = staged.state;
  const int64_t slot = staged.slot;
  const int thread = static_cast<int>(threadIdx.x);
  const int32_t* tokens = p.staged_words + staged.tokens_begin;
  for (int i = thread; i < state.num_tokens; i += kLoadThreads) {
    p.slots.tokens[slot * p.slots.max_seq_len + i] = tokens[i];
  }
  for (int i = thread; i < staged.num_words; i += kLoadThreads) {
    p.slots.words[slot * p.slots.max_words + i] = p.staged_words[staged.words_begin + i];
  }
  if (thread == 0) {
    p.slots.states[slot] = state;
    p.slots.last_tokens[slot] = state.num_tokens > 0 ? tokens[state.num_tokens - 1] : 0;
  }
  if (!state.penalties || !p.slots.counts) return;
  int32_t* counts = p.slots.counts + slot * p.slots.vocab_size;
  for (int i = thread; i < p.slots.vocab_size; i += kLoadThreads) counts[i] = 0;
  __syncthreads();
  for (int i = thread; i < state.num_tokens; i += kLoadThreads) {
    if (tokens[i] >= 0 && tokens[i] < p.slots.vocab_size) atomicAdd(counts + tokens[i], 1);
  }
}

// --- The scan ---

// Calls ban(token) for every token that may not come next, some perhaps twice, spread over the
// block's threads.
template <typename Ban>
__device__ void ForEachBanned(const SamplingSlots& slots, const SlotSampling& s, int64_t slot,
                              Ban ban) {
  const int32_t* tokens = slots.tokens + slot * slots.max_seq_len;
  const int32_t* words = slots.words + slot * slots.max_words;
  const int thread = static_cast<int>(threadIdx.x);
  if (s.num_tokens - s.num_prompt < s.min_tokens) {
    for (int i = thread; i < s.num_end_ids; i += kScanThreads) ban(words[i]);
  }
  int at = s.bad_words_begin;
  for (int w = 0; w < s.num_bad_words; ++w) {
    const int length = words[at];
    if (w % kScanThreads == thread && length - 1 <= s.num_tokens) {
      const int32_t* word = words + at + 1;
      bool matches = true;
      for (int i = 0; matches && i < length - 1; ++i) {
        matches = word[i] == tokens[s.num_tokens - (length - 1) + i];
      }
      if (matches) ban(word[length - 1]);
    }
    at += 1 + length;
  }
  if (s.no_repeat_ngram_size <= 0) return;
  const int prefix = s.no_repeat_ngram_size - 1;
  for (int i = prefix + thread; i < s.num_tokens; i += kScanThreads) {
    bool matches = true;
    for (int j = 0; matches && j < prefix; ++j) {
      matches = tokens[s.num_tokens - prefix + j] == tokens[i - prefix + j];
    }
    if (matches) ban(tokens[i]);
  }
}

__device__ float Penalised(float x, int count, const SlotSampling& s) {
  if (count == 0) return x;
  x = x < 0.0f ? __fmul_rn(x, s.repetition_penalty) : __fdiv_rn(x, s.repetition_penalty);
  x = __fsub_rn(x, s.presence_penalty);
  return Ordered(__fsub_rn(x, __fmul_rn(static_cast<float>(count), s.frequency_penalty)));
}

// Place in the row of value j of a thread; four neighbours are consecutive.
__device__ int Place(int chunk, int j) {
  return chunk * kChunk + (j / 4) * (kScanThreads * 4) + static_cast<int>(threadIdx.x) * 4 + j % 4;
}

template <bool kAligned>
__device__ void LoadLogits(const float* logits, int chunk, int vocab_size, float (&x)[kPerThread]) {
#pragma unroll
  for (int j = 0; j < kPerThread; j += 4) {
    const int place = Place(chunk, j);
    if (kAligned && place + 4 <= vocab_size) {
      const float4 four = __ldcs(reinterpret_cast<const float4*>(logits + place));
      x[j] = four.x, x[j + 1] = four.y, x[j + 2] = four.z, x[j + 3] = four.w;
    } else {
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        x[j + k] = place + k < vocab_size ? logits[place + k] : -CUDART_INF_F;
      }
    }
  }
}

// The larger of two (key, ~token) pairs over the block, in every thread.
__device__ uint64_t BlockMax(uint64_t best, uint64_t* scratch) {
#pragma unroll
  for (int offset = kWarpSize / 2; offset > 0; offset /= 2) {
    const uint64_t other = __shfl_xor_sync(kAllLanes, best, offset);
    best = other > best ? other : best;
  }
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  if (threadIdx.x % kWarpSize == 0) scratch[warp] = best;
  __syncthreads();
  best = scratch[0];
#pragma unroll
  for (int w = 1; w < kScanThreads / kWarpSize; ++w) {
    best = scratch[w] > best ? scratch[w] : best;
  }
  return best;
}

// Bias, temperature, penalties and bans; the result also goes to `values`.
__device__ void ProcessChunk(const SamplingSlots& slots, const SlotSampling& s, int64_t slot,
                             int chunk, float* values, float (&x)[kPerThread]) {
  const float divisor = Divisor(s);
  const int32_t* counts = s.penalties ? slots.counts + slot * slots.vocab_size : nullptr;
#pragma unroll
  for (int j = 0; j < kPerThread; ++j) {
    const int place = Place(chunk, j);
    if (place >= slots.vocab_size) continue;
    if (s.bias) x[j] = __fadd_rn(x[j], s.bias[place]);
    if (divisor != 0.0f) x[j] = __fdiv_rn(x[j], divisor);
    x[j] = Ordered(x[j]);
    if (counts) x[j] = Penalised(x[j], counts[place], s);
    values[place] = x[j];
  }
  if (!HasBans(s)) return;
  __syncthreads();
  const int begin = chunk * kChunk;
  const int end = begin + kChunk < slots.vocab_size ? begin + kChunk : slots.vocab_size;
  ForEachBanned(slots, s, slot, [&](int token) {
    if (token >= begin && token < end) values[token] = -CUDART_INF_F;
  });
  __syncthreads();
#pragma unroll
  for (int j = 0; j < kPerThread; ++j) {
    const int place = Place(chunk, j);
    if (place < slots.vocab_size) x[j] = values[place];
  }
}

// One block a chunk of a row: blockIdx.x, blockIdx.y.
template <bool kAligned>
__global__ void __launch_bounds__(kScanThreads, kScanBlocksPerSm)
    ScanKernel(const __grid_constant__ SampleParams p, const __grid_constant__ SampleWorkspace w) {
  __shared__ uint64_t best_scratch[kScanThreads / kWarpSize];
  __shared__ float mass_scratch[kScanThreads / kWarpSize];
  cudaTriggerProgrammaticLaunchCompletion();
  cudaGridDependencySynchronize();
  const int row = static_cast<int>(blockIdx.y);
  const SampleRow target = p.rows[row];  // read beside the count, not after it
  if (row >= *p.num_rows) return;
  const int chunk = static_cast<int>(blockIdx.x);
  const SlotSampling& s = p.slots.states[target.slot];

  float x[kPerThread];
  LoadLogits<kAligned>(p.logits + target.logit_row * p.logits_stride, chunk, p.slots.vocab_size, x);
  bool flagged = false;
#pragma unroll
  for (float value : x) flagged |= isnan(value) || value == CUDART_INF_F;
  if (IsProcessed(s)) {
    ProcessChunk(p.slots, s, target.slot, chunk, w.values + row * w.values_stride, x);
  } else {
    const float divisor = Divisor(s);
#pragma unroll
    for (float& value : x) {
      value = Ordered(divisor == 0.0f ? value : __fdiv_rn(value, divisor));
    }
  }

  float max = x[0];
  int place = 0;
#pragma unroll
  for (int j = 1; j < kPerThread; ++j) {
    if (x[j] > max) max = x[j], place = j;
  }
  if (!IsGreedy(s)) {
#pragma unroll
    for (int j = 0; j < kPerThread; j += 4) {
      const float four = fmaxf(fmaxf(x[j], x[j + 1]), fmaxf(x[j + 2], x[j + 3]));
      const uint32_t key = __reduce_max_sync(kAllLanes, OrderKey(four));
      if (threadIdx.x % kWarpSize == 0) {
        w.maxima[row * w.maxima_stride + Place(chunk, j) / kSampleBlock] = FromOrderKey(key);
      }
    }
  }
  const uint64_t best = BlockMax(
      uint64_t{OrderKey(max)} << 32 | ~static_cast<uint32_t>(Place(chunk, place)), best_scratch);
  max = FromOrderKey(static_cast<uint32_t>(best >> 32));
  float mass = 0.0f;
  if ((s.log_probs || !IsGreedy(s)) && fabsf(max) != CUDART_INF_F) {
#pragma unroll
    for (float value : x) mass += __expf(value - max);
  }
  mass = RowSum(mass, mass_scratch);
  const int flags = __syncthreads_or(flagged) ? kNonFiniteLogits : 0;
  if (threadIdx.x == 0) {
    w.chunks[int64_t{row} * w.num_chunks + chunk] = {
        max, static_cast<int32_t>(~static_cast<uint32_t>(best)), mass, flags};
  }
}

__global__ void __launch_bounds__(kChooseThreads)
    ChooseKernel(const __grid_constant__ SampleParams p,
                 const __grid_constant__ SampleWorkspace w) {
  __shared__ ChooseScratch scratch;
  cudaTriggerProgrammaticLaunchCompletion();
  cudaGridDependencySynchronize();
  const int row = static_cast<int>(blockIdx.x);
  if (row >= *p.num_rows) return;
  const SampleRow target = p.rows[row];
  RowChooser chooser(p, w, row, target, scratch);
  const Choice choice = chooser.Choose();
  __syncthreads();  // nobody reads the slot's state any more
  if (threadIdx.x == 0) p.results[row] = AppendToken(p.slots, target.slot, choice);
}

}  // namespace

cudaError_t LoadSlots(const LoadSlotsParams& params, LaunchContext& context) {
  if (params.num_staged <= 0) return cudaErrorInvalidValue;
  const LaunchShape shape{.grid = dim3(static_cast<unsigned>(params.num_staged)),
                          .block = dim3(kLoadThreads)};
  return Launch(context, "LoadSlots", shape, LoadSlotsKernel, params);
}

int64_t SampleWorkspaceBytes(int vocab_size, int max_rows) {
  int64_t bytes = 0;
  SplitWorkspace(nullptr, vocab_size, max_rows, &bytes);
  return bytes;
}

cudaError_t Sample(const SampleParams& params, LaunchContext& context) {
  const int vocab_size = params.slots.vocab_size;
  if (vocab_size <= 0 || vocab_size > kMaxChunks * kChunk || params.max_rows <= 0) {
    return cudaErrorInvalidValue;
  }
  int64_t bytes = 0;
  const SampleWorkspace workspace =
      SplitWorkspace(params.workspace, vocab_size, params.max_rows, &bytes);
  const LaunchShape scan{.grid = dim3(static_cast<unsigned>(workspace.num_chunks),
                                      static_cast<unsigned>(params.max_rows)),
                         .block = dim3(kScanThreads)};
  const bool aligned =
      params.logits_stride % 4 == 0 && reinterpret_cast<uintptr_t>(params.logits) % 16 == 0;
  const cudaError_t error =
      aligned ? Launch(context, "SampleScan", scan, ScanKernel<true>, params, workspace)
              : Launch(context, "SampleScan", scan, ScanKernel<false>, params, workspace);
  if (error != cudaSuccess) return error;
  const LaunchShape choose{.grid = dim3(static_cast<unsigned>(params.max_rows)),
                           .block = dim3(kChooseThreads)};
  return Launch(context, "SampleChoose", choose, ChooseKernel, params, workspace);
}

}  // namespace trireme::cuda
