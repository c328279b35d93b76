// SPDX-License-Identifier: Apache-2.0
// What a model's generation_config.json says of sampling: its publisher's defaults for requests that
// leave them open. Pure functions.
#pragma once

#include <optional>
#include <string>

#include "trireme/generator.h"
#include "trireme/status.h"

namespace trireme::generate {

// Set: the file says so, in the sense transformers gives it: temperature, top_k (50 if left out) and
// top_p count with do_sample true only; without it decoding is greedy.
struct GenerationDefaults {
  std::optional<float> temperature;
  std::optional<int> top_k;
  std::optional<float> top_p;
  std::optional<float> repetition_penalty;
};

// Of the folder's generation_config.json; none without that file. INVALID_ARGUMENT names the file
// and a member of the wrong type or out of range.
StatusOr<GenerationDefaults> ReadGenerationDefaults(const std::string& folder);

// Fills what is not given. A given top_k of 1 asks for the model's plain choice: nothing is filled.
void ApplyDefaults(const GenerationDefaults& defaults, const SamplingGiven& given, int vocab_size,
                   SamplingParams& sampling);

}  // namespace trireme::generate
