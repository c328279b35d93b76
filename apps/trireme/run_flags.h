// SPDX-License-Identifier: Apache-2.0
// The flags of `trireme run`: their names, bounds and mutual checks. Main thread only.
#pragma once

#include <string>
#include <vector>

#include "cli.h"
#include "device_flags.h"
#include "resolve_model.h"
#include "trireme/executor.h"
#include "trireme/generator.h"

namespace trireme::cli {

struct RunFlags {
  std::string engine_dir = "engine_outputs";
  std::string tokenizer_dir;
  std::vector<std::string> input_text;
  std::string input_file;
  int max_input_length = 0;
  int max_output_len = 0;
  int end_id = -2;  // -2: the tokenizer's
  bool no_add_special_tokens = false;
  bool chat = false;
  std::string system;
  std::string chat_template;
  bool streaming = false;
  int streaming_interval = 1;
  SamplingParams sampling;
  std::vector<std::string> stop_words;
  std::vector<std::string> bad_words;
  std::string output_csv;
  std::string output_npy;
  std::string output_logits_npy;
  std::string output_context_logits_npy;
  std::string output_log_probs_npy;
  std::string output_cum_log_probs_npy;
  bool run_profiling = false;
  bool ignore_generation_config = false;
  SamplingGiven given;
  ExecutorConfig executor;
  ResolveOptions resolve;
  DeviceFlags device;
  std::string log_level = "warning";
};

void AddRunFlags(CommandLine& line, RunFlags& flags);

// What is wrong with the flags before any work is done; completes what follows from them.
Status FinishRunFlags(const CommandLine& line, RunFlags& flags);

// The executor speaks of a request's fields; who typed flags reads those.
Status WithFlagNames(const Status& status);

}  // namespace trireme::cli
