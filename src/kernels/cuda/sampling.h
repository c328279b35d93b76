// SPDX-License-Identifier: Apache-2.0
// The next token of each row from its float32 logits, and what its slot remembers: kernels/sampling.h
// and kernels/sampling_state.h on the device, token for token (steps 1 to 5, the same Philox noise,
// ties to the lowest id, the same log probability, the same end of a sequence).
//
// The state of a slot lies in device memory (SamplingSlots): LoadSlots writes it when a request
// begins, Sample reads and advances it. The host never has to see a token before the next Forward.
//
//   Sample = two launches: one pass over the logits in chunks (maximum, its lowest id, mass; rows
//   with bias, penalties or bans also leave their processed values), then one thread block a row
//   that chooses, appends and decides whether the sequence ends. Greedy and temperature-only rows
//   read the logits once. With top-k, top-p or min-p the block gathers the few logits that can be
//   kept, by the maxima of blocks of 128; when they are too many it selects over the whole row.
//
// Sums of probabilities are float64 over float32 partial sums of chunks, in a fixed order:
// deterministic, and equal to the CPU's choice unless the noise lies within rounding of a boundary.
// Bound by bandwidth. sm_80 up.
#pragma once

#include "device/cuda/launch.h"
#include "kernels/cuda/types.h"

namespace trireme::cuda {

// What one slot samples with. Host code fills it (kernels/cuda/sampling_setup.h).
struct SlotSampling {
  uint64_t seed = 0;
  float temperature = 1.0f;
  float top_p = 0.0f;          // after the decay so far
  float initial_top_p = 0.0f;  // as asked for
  float top_p_decay = 1.0f;
  float top_p_min = 1e-6f;
  float min_p = 0.0f;
  float repetition_penalty = 1.0f;
  float presence_penalty = 0.0f;
  float frequency_penalty = 0.0f;
  float cum_log_prob = 0.0f;
  int32_t top_k = 0;
  int32_t top_p_reset_id = -1;
  int32_t min_tokens = 0;
  int32_t max_tokens = 0;
  int32_t no_repeat_ngram_size = 0;
  int32_t num_prompt = 0;
  int32_t num_tokens = 0;  // prompt and generated: place of the next token
  // Words of the slot: end ids, then stop words, then bad words, each word as its length and ids.
  int32_t num_end_ids = 0;
  int32_t num_stop_words = 0;
  int32_t num_bad_words = 0;
  int32_t bad_words_begin = 0;  // index of the first bad word's length
  int32_t log_probs = 0;        // 1: wanted
  int32_t penalties = 0;        // 1: some penalty is on, counts are kept
  const float* bias = nullptr;  // device, [vocab_size] or null
};

// Device arrays by slot. `counts` may be null when no slot ever has penalties.
struct SamplingSlots {
  SlotSampling* states = nullptr;  // [num_slots]
  int32_t* last_tokens = nullptr;  // [num_slots]
  int32_t* tokens = nullptr;       // [num_slots, max_seq_len] prompt and generated
  int32_t* words = nullptr;        // [num_slots, max_words]
  int32_t* counts = nullptr;       // [num_slots, vocab_size] how often a token was seen
  int max_seq_len = 0;
  int max_words = 0;
  int vocab_size = 0;
};

// A slot to be loaded. `begin`s index the staged words of LoadSlotsParams.
struct StagedSlot {
  SlotSampling state;
  int32_t slot = 0;
  int32_t num_words = 0;     // of end ids, stop and bad words together
  int32_t tokens_begin = 0;  // state.num_tokens ids
  int32_t words_begin = 0;
};

struct LoadSlotsParams {
  SamplingSlots slots;
  const StagedSlot* staged = nullptr;     // device, [num_staged], distinct slots
  const int32_t* staged_words = nullptr;  // device
  int num_staged = 0;
};

// One thread block a slot. A token outside the vocabulary is not counted.
cudaError_t LoadSlots(const LoadSlotsParams& params, LaunchContext& context);

struct SampleRow {
  int32_t slot = 0;
  int32_t logit_row = 0;
};

enum SampleFlags : int32_t { kNonFiniteLogits = 1 };  // a NaN or +inf among the row's logits

struct SampleResult {
  int32_t slot = 0;
  int32_t token = 0;
  int32_t finish = 0;     // trireme::FinishReason: 0 not finished, 1 end id, 2 stop word, 3 length
  float log_prob = 0.0f;  // when wanted
  float cum_log_prob = 0.0f;
  int32_t flags = 0;
};

struct SampleParams {
  SamplingSlots slots;
  const float* logits = nullptr;      // [.., vocab_size], row stride logits_stride
  int64_t logits_stride = 0;          // a multiple of 4 reads fastest
  const SampleRow* rows = nullptr;    // device, [max_rows], distinct slots
  const int32_t* num_rows = nullptr;  // device
  SampleResult* results = nullptr;    // [max_rows]; device, or pinned host memory
  void* workspace = nullptr;          // SampleWorkspaceBytes, 256-byte aligned
  int max_rows = 0;
};

int64_t SampleWorkspaceBytes(int vocab_size, int max_rows);

cudaError_t Sample(const SampleParams& params, LaunchContext& context);

}  // namespace trireme::cuda
