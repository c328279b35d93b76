// SPDX-License-Identifier: Apache-2.0
#include "eval_text.h"

#include <algorithm>
#include <filesystem>

#include "base/log.h"
#include "base/mapped_file.h"
#include "formats/text_dataset.h"
#include "trireme/tokenizer.h"

namespace trireme::cli {

void AddEvalFlags(CommandLine& line, EvalFlags& f) {
  line.Add("--engine_dir", f.engine_dir,
           "engine directory, one .engine file, or what `trireme serve` takes as a model");
  line.Require("--engine_dir");
  line.Add("--tokenizer_dir", f.tokenizer_dir, "tokenizer; default: the engine's own");
  line.AddSwitch("--no_add_special_tokens", f.no_add_special_tokens,
                 "do not add the tokenizer's special tokens");
  line.Add("--num_threads", f.num_threads, "0: one per processor", kThreads);
  line.Add("--device", f.resolve.device,
           "device of an engine built here: cpu, cuda, or auto (cuda where a GPU is found)");
  line.Add("--dtype", f.resolve.dtype, "of an engine built here");
  line.Add("--output_json", f.output_json, "write the report there");
  line.Add("--log_level", f.log_level, "verbosity: debug, info, warning, error");
}

void AddWindowFlags(CommandLine& line, EvalFlags& f) {
  line.Add("--dataset", f.dataset, "local text: a text file, JSON lines, or a folder of them");
  line.Add("--text_column", f.text_column,
           "key of a JSON line that holds the text; default: text, else article");
  line.Add("--max_length", f.max_length,
           "tokens of a window; 0: what the engine takes, at most 2048", kTokenCounts);
  line.Add("--stride", f.stride, "tokens between two windows' beginnings; 0: half a window",
           kTokenCounts);
  line.Add("--max_tokens", f.max_tokens, "stop reading the text there; 0: all of it", kNotNegative);
}

Status PrepareEval(const EvalFlags& flags) {
  TRIREME_RETURN_IF_ERROR(SetLogLevel(flags.log_level).WithContext("--log_level"));
  TRIREME_RETURN_IF_ERROR(CheckOptions(flags.resolve));
  return CheckOutputPath("--output_json", flags.output_json);
}

StatusOr<EvalText> ReadEvalText(const EvalFlags& flags, const std::string& engine_dir) {
  namespace fs = std::filesystem;
  if (flags.dataset.empty()) return InvalidArgument("give a text with --dataset");
  std::string dir = flags.tokenizer_dir;
  if (dir.empty()) {
    dir = fs::is_directory(engine_dir) ? engine_dir : fs::path(engine_dir).parent_path().string();
  }
  TRIREME_ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> tokenizer, Tokenizer::Load(dir));
  TextDatasetOptions options;
  options.column = flags.text_column;
  options.column_flag = "--text_column";
  TRIREME_ASSIGN_OR_RETURN(const std::vector<TextRecord> records,
                           ReadTextDataset(flags.dataset, options));
  EvalText text;
  for (const TextRecord& record : records) {
    TRIREME_ASSIGN_OR_RETURN(eval::TokenSample tokens,
                             tokenizer->Encode(record.text, !flags.no_add_special_tokens));
    int64_t bytes = static_cast<int64_t>(record.text.size());
    const int64_t room = flags.max_tokens - text.num_tokens;
    if (flags.max_tokens > 0 && static_cast<int64_t>(tokens.size()) > room) {
      tokens.resize(static_cast<size_t>(room));
      TRIREME_ASSIGN_OR_RETURN(const std::string kept,
                               tokenizer->Decode(tokens, /*skip_special_tokens=*/true));
      bytes = static_cast<int64_t>(kept.size());
    }
    text.num_tokens += static_cast<int64_t>(tokens.size());
    text.num_bytes += bytes;
    text.samples.push_back(std::move(tokens));
    if (flags.max_tokens > 0 && text.num_tokens >= flags.max_tokens) break;
  }
  return text;
}

StatusOr<eval::SequenceRunner> LoadRunner(const std::string& model, const EvalFlags& flags) {
  if (flags.max_length < 0) {
    return InvalidArgument("--max_length {} must be 0 or more", flags.max_length);
  }
  eval::RunnerOptions options;
  options.max_seq_len = flags.max_length;
  options.num_threads = flags.num_threads;
  return eval::SequenceRunner::Load(model, std::move(options));
}

eval::WindowOptions WindowsOf(const EvalFlags& flags, int max_seq_len) {
  const int length = flags.max_length > 0 ? flags.max_length : max_seq_len;
  return {.max_length = length, .stride = flags.stride != 0 ? flags.stride : (length + 1) / 2};
}

Status WriteReport(const EvalFlags& flags, const nlohmann::ordered_json& report) {
  if (flags.output_json.empty()) return OkStatus();
  const auto replace = nlohmann::ordered_json::error_handler_t::replace;
  return WriteFile(flags.output_json, report.dump(2, ' ', false, replace) + "\n");
}

}  // namespace trireme::cli
