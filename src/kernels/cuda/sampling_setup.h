// SPDX-License-Identifier: Apache-2.0
// Fills the device form of a slot's sampling state from a request. Host code. Pure functions.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/cuda/sampling.h"
#include "kernels/sampling_state.h"

namespace trireme::cuda {

// Appends the slot to `staged` and its tokens and words to `words`, ready to be copied to the device
// for LoadSlots. `bias` is setup.embedding_bias in device memory, or null. False, with nothing
// appended, when the sequence is longer than max_seq_len or its words take more than max_words.
bool StageSlot(const kernels::SamplingSetup& setup, int slot, const float* bias, int max_seq_len,
               int max_words, std::vector<StagedSlot>& staged, std::vector<int32_t>& words);

}  // namespace trireme::cuda
