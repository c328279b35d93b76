// SPDX-License-Identifier: Apache-2.0
// Where the time of one step goes, launch by launch.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "trireme/executor.h"
#include "trireme/status.h"

namespace trireme::cli {

struct ProfileOptions {
  int prompt_tokens = 128;  // of each sequence
  int num_seqs = 1;         // that decode together
  int num_runs = 20;        // of each step; medians are reported
};

// A prefill of one prompt, one of as many as fill a step, a step of half a batch that decodes beside
// the prompts of the other half, and a decode step of all sequences behind their prompts; those of
// several sequences only with several. For each launch its time, the bytes it moves at least, and
// those over that time as a share of the memory's bandwidth, measured in the same run.
StatusOr<nlohmann::ordered_json> ProfileSteps(const std::string& engine,
                                              const ExecutorConfig& config,
                                              const ProfileOptions& options);

}  // namespace trireme::cli
