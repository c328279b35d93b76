// SPDX-License-Identifier: Apache-2.0
// What the tasks of trireme eval share: the engine and the text they are given, and their report.
// Main thread only.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cli.h"
#include "eval/sequence_runner.h"
#include "eval/windows.h"
#include "resolve_model.h"

namespace trireme::cli {

struct EvalFlags {
  std::string engine_dir;
  std::string tokenizer_dir;
  std::string dataset;
  std::string text_column;
  bool no_add_special_tokens = false;
  int max_length = 0;
  int stride = 0;
  int64_t max_tokens = 0;
  int num_threads = 0;
  ResolveOptions resolve;
  std::string output_json;
  std::string log_level = "warning";
};

// Flags of every task.
void AddEvalFlags(CommandLine& line, EvalFlags& flags);
// Sets the log level and sees that the report can be written, before any work.
Status PrepareEval(const EvalFlags& flags);
// Flags about text that is read in windows.
void AddWindowFlags(CommandLine& line, EvalFlags& flags);

struct EvalText {
  std::vector<eval::TokenSample> samples;  // a text file, or a JSON line each
  int64_t num_tokens = 0;
  int64_t num_bytes = 0;
};
// Tokenized with the tokenizer of --tokenizer_dir, else that of the engine.
StatusOr<EvalText> ReadEvalText(const EvalFlags& flags, const std::string& engine_dir);

// Loads an engine for the flags' window length.
StatusOr<eval::SequenceRunner> LoadRunner(const std::string& model, const EvalFlags& flags);
// The windows asked for, where the engines take `max_seq_len` tokens; by default they overlap by
// half.
eval::WindowOptions WindowsOf(const EvalFlags& flags, int max_seq_len);

// Writes --output_json, where given.
Status WriteReport(const EvalFlags& flags, const nlohmann::ordered_json& report);

// trireme eval summarize, after its name.
int RunEvalSummarize(std::span<const std::string> arguments);

}  // namespace trireme::cli
