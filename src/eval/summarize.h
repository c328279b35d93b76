// SPDX-License-Identifier: Apache-2.0
// Summaries by a model beside those of people: ROUGE of greedy or sampled continuations of
// "article TL;DR:". One call at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "eval/rouge.h"
#include "formats/text_dataset.h"
#include "trireme/generator.h"

namespace trireme::eval {

struct SummarizeOptions {
  int batch_size = 1;  // requests at a time
  int output_len = 100;
  int max_input_length = 923;  // tokens of a prompt; a longer article loses its end
  bool add_special_tokens = true;
  bool use_stemmer = false;
  SamplingParams sampling;
};

struct Summary {
  std::string text;
  int num_prompt_tokens = 0;
  int num_output_tokens = 0;
  RougeScores rouge;
};

struct SummarizeReport {
  std::vector<Summary> summaries;  // in the order of the records
  RougeScores mean;
  int64_t num_output_tokens = 0;
  double seconds = 0.0;  // of generating
};

using SummarizeProgressFn = std::function<void(int64_t done, int64_t total)>;

// Each record needs its targets. The first request that fails ends the run.
StatusOr<SummarizeReport> Summarize(Generator& generator, std::span<const TextRecord> records,
                                    const SummarizeOptions& options,
                                    const SummarizeProgressFn& progress);

}  // namespace trireme::eval
