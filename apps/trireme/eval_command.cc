// SPDX-License-Identifier: Apache-2.0
// trireme eval: how good an engine is. perplexity and compare are here, summarize beside it.
#include <fmt/core.h>

#include <cmath>
#include <numbers>

#include "commands.h"
#include "eval/perplexity.h"
#include "eval_text.h"
#include "formats/npy.h"
#include "progress.h"

namespace trireme::cli {
namespace {

using Json = nlohmann::ordered_json;

// Runs `measure` under a progress bar.
template <typename Measure>
auto WithProgress(std::string_view stage, const Measure& measure) {
  Progress progress;
  return measure(
      [&](int64_t done, int64_t total) { progress.Update(stage, "windows", done, total); });
}

Status MeasureAndPrint(const EvalFlags& flags) {
  TRIREME_ASSIGN_OR_RETURN(const std::string engine,
                           ResolveEngine(flags.engine_dir, flags.resolve, PlacesFromEnvironment()));
  TRIREME_ASSIGN_OR_RETURN(const EvalText text, ReadEvalText(flags, engine));
  TRIREME_ASSIGN_OR_RETURN(eval::SequenceRunner runner, LoadRunner(engine, flags));
  const eval::WindowOptions windows = WindowsOf(flags, runner.max_seq_len());
  TRIREME_ASSIGN_OR_RETURN(const eval::Perplexity result,
                           WithProgress("scoring", [&](const eval::EvalProgressFn& progress) {
                             return eval::MeasurePerplexity(runner, text.samples, windows,
                                                            progress);
                           }));
  const double per_byte = result.sum / static_cast<double>(text.num_bytes);
  fmt::print("text                  {} bytes, {} tokens, {} scored\n", text.num_bytes,
             text.num_tokens, result.num_tokens);
  fmt::print("windows               {} tokens, every {}\n", windows.max_length, windows.stride);
  fmt::print("perplexity per token  {:.4f}\n", result.value);
  fmt::print("perplexity per byte   {:.4f}\n", std::exp(per_byte));
  fmt::print("bits per byte         {:.4f}\n", per_byte / std::numbers::ln2);
  return WriteReport(flags, {{"task", "perplexity"},
                             {"engine_dir", flags.engine_dir},
                             {"dataset", flags.dataset},
                             {"max_length", windows.max_length},
                             {"stride", windows.stride},
                             {"num_bytes", text.num_bytes},
                             {"num_tokens", text.num_tokens},
                             {"num_scored_tokens", result.num_tokens},
                             {"negative_log_likelihood", result.sum},
                             {"perplexity", result.value},
                             {"byte_perplexity", std::exp(per_byte)},
                             {"bits_per_byte", per_byte / std::numbers::ln2}});
}

int RunPerplexity(std::span<const std::string> arguments) {
  constexpr std::string_view kName = "eval perplexity";
  EvalFlags flags;
  CommandLine line(kName, "Measure how well an engine predicts a text.",
                   {"trireme eval perplexity --engine_dir engine --dataset wiki.test.tokens",
                    "trireme eval perplexity --engine_dir engine --dataset wiki.test.tokens "
                    "--max_length 1024 --stride 512 --output_json report.json"});
  AddEvalFlags(line, flags);
  AddWindowFlags(line, flags);
  line.Require("--dataset");
  if (const std::optional<int> code = line.Parse(arguments)) return *code;
  if (const Status ready = PrepareEval(flags); !ready.ok()) return FailUsage(kName, ready);
  const Status status = MeasureAndPrint(flags);
  return status.ok() ? kExitOk : Fail(kName, status);
}

struct CompareFlags {
  EvalFlags common;
  std::string reference_engine_dir;
  std::string reference_logits_npy;
  std::string input_file;
};

void PrintComparison(const eval::Comparison& c) {
  const double change = (c.candidate.value / c.reference.value - 1.0) * 100.0;
  fmt::print("scored tokens         {}\n", c.reference.num_tokens);
  fmt::print("perplexity            {:.4f}, reference {:.4f} ({:+.2f} %)\n", c.candidate.value,
             c.reference.value, change);
  fmt::print("KL divergence         mean {:.3e}, largest {:.3e} nats\n", c.mean_kl, c.max_kl);
  fmt::print("same likeliest        {:.2f} %\n", c.same_best * 100.0);
}

Json ReportOf(const CompareFlags& flags, const eval::Comparison& c) {
  const bool stored = !flags.reference_logits_npy.empty();
  return {{"task", "compare"},
          {"engine_dir", flags.common.engine_dir},
          {"reference", stored ? flags.reference_logits_npy : flags.reference_engine_dir},
          {"num_scored_tokens", c.reference.num_tokens},
          {"perplexity", c.candidate.value},
          {"reference_perplexity", c.reference.value},
          {"perplexity_delta", c.candidate.value - c.reference.value},
          {"mean_kl_divergence", c.mean_kl},
          {"max_kl_divergence", c.max_kl},
          {"top1_agreement", c.same_best}};
}

StatusOr<std::vector<eval::TokenSample>> ReadSamples(const CompareFlags& flags,
                                                     const std::string& engine) {
  if (!flags.input_file.empty()) return ReadIdRows(flags.input_file);
  TRIREME_ASSIGN_OR_RETURN(EvalText text, ReadEvalText(flags.common, engine));
  return std::move(text.samples);
}

Status CheckCompareFlags(const CompareFlags& flags) {
  if (flags.reference_engine_dir.empty() == flags.reference_logits_npy.empty()) {
    return InvalidArgument("give either --reference_engine_dir or --reference_logits_npy");
  }
  if (flags.input_file.empty() == flags.common.dataset.empty()) {
    return InvalidArgument("give either --dataset (text) or --input_file (token ids)");
  }
  if (flags.common.stride != 0 && !flags.reference_logits_npy.empty()) {
    return InvalidArgument("--stride has no meaning with stored logits: a text is one window");
  }
  return PrepareEval(flags.common);
}

StatusOr<eval::Comparison> Compare(const CompareFlags& flags) {
  const EvalFlags& common = flags.common;
  const ModelPlaces places = PlacesFromEnvironment();
  TRIREME_ASSIGN_OR_RETURN(const std::string engine,
                           ResolveEngine(common.engine_dir, common.resolve, places));
  TRIREME_ASSIGN_OR_RETURN(const std::vector<eval::TokenSample> samples,
                           ReadSamples(flags, engine));
  TRIREME_ASSIGN_OR_RETURN(eval::SequenceRunner candidate, LoadRunner(engine, common));
  if (!flags.reference_logits_npy.empty()) {
    TRIREME_ASSIGN_OR_RETURN(const HostTensor stored, ReadNpy(flags.reference_logits_npy));
    return WithProgress("comparing", [&](const eval::EvalProgressFn& progress) {
      return eval::CompareWithLogits(stored.view(), candidate, samples, progress);
    });
  }
  TRIREME_ASSIGN_OR_RETURN(const std::string other,
                           ResolveEngine(flags.reference_engine_dir, common.resolve, places));
  TRIREME_ASSIGN_OR_RETURN(eval::SequenceRunner reference, LoadRunner(other, common));
  const eval::WindowOptions windows =
      WindowsOf(common, std::min(candidate.max_seq_len(), reference.max_seq_len()));
  return WithProgress("comparing", [&](const eval::EvalProgressFn& progress) {
    return eval::CompareEngines(reference, candidate, samples, windows, progress);
  });
}

int RunCompare(std::span<const std::string> arguments) {
  constexpr std::string_view kName = "eval compare";
  CompareFlags flags;
  CommandLine line(
      kName, "Measure how far an engine lies from another one, or from stored logits.",
      {"trireme eval compare --engine_dir int8 --reference_engine_dir bf16 --dataset text.txt",
       "trireme eval compare --engine_dir engine --input_file ids.csv "
       "--reference_logits_npy logits.npy"});
  AddEvalFlags(line, flags.common);
  AddWindowFlags(line, flags.common);
  line.Add("--reference_engine_dir", flags.reference_engine_dir, "engine to compare with");
  line.Add("--reference_logits_npy", flags.reference_logits_npy,
           "logits to compare with, [texts, tokens, vocab] or [tokens, vocab], as `trireme run "
           "--output_context_logits_npy` writes them");
  line.Add("--input_file", flags.input_file, "token ids in a .csv or .npy, instead of a text");
  if (const std::optional<int> code = line.Parse(arguments)) return *code;
  if (const Status ready = CheckCompareFlags(flags); !ready.ok()) return FailUsage(kName, ready);
  const StatusOr<eval::Comparison> comparison = Compare(flags);
  if (!comparison.ok()) return Fail(kName, comparison.status());
  PrintComparison(*comparison);
  const Status status = WriteReport(flags.common, ReportOf(flags, *comparison));
  return status.ok() ? kExitOk : Fail(kName, status);
}

}  // namespace

int RunEval(std::span<const std::string> arguments) {
  const std::string task = arguments.empty() ? "" : arguments[0];
  if (task == "perplexity") return RunPerplexity(arguments.subspan(1));
  if (task == "summarize") return RunEvalSummarize(arguments.subspan(1));
  if (task == "compare") return RunCompare(arguments.subspan(1));
  const bool help = task == "--help" || task == "-h";
  fmt::print(help ? stdout : stderr,
             "trireme eval: say what to measure\n\n"
             "  perplexity  how well an engine predicts a text\n"
             "  summarize   ROUGE of its summaries of articles\n"
             "  compare     how far it lies from another engine, or from stored logits\n\n"
             "`trireme eval perplexity --help` shows the flags of a task.\n");
  return help ? kExitOk : kExitUsage;
}

}  // namespace trireme::cli
