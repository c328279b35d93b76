// SPDX-License-Identifier: Apache-2.0
// trireme eval summarize: ROUGE of an engine's summaries. Replaces summarize.py.
#include <fmt/core.h>

#include "base/mapped_file.h"
#include "eval/summarize.h"
#include "eval_text.h"
#include "progress.h"

namespace trireme::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kName = "eval summarize";
constexpr const char* kOutputFile = "trireme.out";

struct Flags {
  EvalFlags common;
  std::string hf_model_dir;
  std::string dataset_dir;
  std::string article_column;
  std::string summary_column;
  int max_ite = 20;
  bool check_accuracy = false;
  double rouge1_threshold = 15.0;
  std::string output_dir;
  eval::SummarizeOptions options;
};

void AddFlags(CommandLine& line, Flags& f) {
  AddEvalFlags(line, f.common);
  line.Add("--hf_model_dir,--model_dir", f.hf_model_dir,
           "folder of the tokenizer, where --tokenizer_dir is not given");
  line.Add("--dataset_dir,--dataset_path", f.dataset_dir,
           "local JSON lines of articles with summaries, or a folder of such files");
  line.Require("--dataset_dir");
  line.Add("--article_column", f.article_column,
           "key of the text; default: article, document or text");
  line.Add("--summary_column", f.summary_column,
           "key of the summary or list of them; default: highlights, summary or summaries");
  line.Add("--max_ite", f.max_ite, "batches", {1, 1e6});
  line.Add("--batch_size", f.options.batch_size, "articles of a batch", {1, 1e6});
  line.Add("--output_len", f.options.output_len, "new tokens at most", kPositive);
  line.Add("--max_input_length", f.options.max_input_length,
           "tokens of a prompt; a longer article loses its end", kPositive);
  line.AddSwitch("--use_stemmer", f.options.use_stemmer, "compare Porter stems of words");
  line.AddSwitch("--check_accuracy", f.check_accuracy, "fail below the threshold");
  line.Add("--tensorrt_llm_rouge1_threshold", f.rouge1_threshold, "least ROUGE-1, in percent");
  line.Add("--output_dir", f.output_dir, "write articles' summaries to trireme.out there");
  SamplingParams& sampling = f.options.sampling;
  sampling.top_k = 1;
  line.Add("--temperature", sampling.temperature, "divides the logits", {1e-30, 1e30});
  line.Add("--top_k", sampling.top_k, "sample among that many; 1: greedy; 0: no limit",
           kNotNegative);
  line.Add("--top_p", sampling.top_p, "sample among the fewest of that probability; 0: off",
           {0, 1});
  line.Add("--random_seed", sampling.seed, "equal seeds repeat");
  line.Add("--repetition_penalty", sampling.repetition_penalty, "1: none", {1e-30, 1e30});
  line.Add("--presence_penalty", sampling.presence_penalty, "0: none");
  line.Add("--frequency_penalty", sampling.frequency_penalty, "0: none");
  line.Add("--min_length", sampling.min_tokens, "new tokens before the end token may come",
           kNotNegative);
}

void AddOthers(CommandLine& line) {
  line.AddNoEffect("--test_trt_llm", "the engine is what is tested");
  line.AddNoEffect("--hf_data_type", "no reference model is run");
  line.AddNoEffect("--data_type", "the engine has its own dtype");
  line.AddNoEffect("--hf_device_map_auto", "no reference model is run");
  line.AddNoEffect("--dataset_cache_dir", "nothing is downloaded");
  line.AddNoEffect("--use_py_session", "there is one session, in C++");
  line.AddNoEffect("--early_stopping", "only beam search reads it");
  line.AddNoEffect("--length_penalty", "only beam search reads it");
  line.AddNoEffect("--debug_mode", "use --log_level debug");
  line.AddRefused("--test_hf", "the Hugging Face model is not run; only the engine is");
  line.AddRefused("--eval_task", "of the tasks only summarize exists", {"summarize"});
  line.AddRefused("--eval_ppl", "use `trireme eval perplexity`, on a text");
  line.AddRefused("--tensorrt_llm_ppl_threshold", "--eval_ppl does not exist");
  line.AddRefused("--num_beams", "beam search does not exist yet", {"1"});
  line.AddRefused("--max_attention_window_size",
                  "windows other than the model's own do not exist yet");
  line.AddRefused("--sink_token_length", "sink tokens do not exist yet");
  line.AddRefused("--vocab_file", "give the folder that holds it as --tokenizer_dir");
  line.AddRefused("--medusa_choices", "Medusa does not exist yet");
}

Json JsonOf(const eval::RougeScores& scores) {
  const auto of = [](const eval::RougeScore& s) {
    return Json{{"precision", s.precision}, {"recall", s.recall}, {"fmeasure", s.fmeasure}};
  };
  return {{"rouge1", of(scores.rouge1)},
          {"rouge2", of(scores.rouge2)},
          {"rougeL", of(scores.rouge_l)},
          {"rougeLsum", of(scores.rouge_lsum)}};
}

Json ReportOf(const Flags& flags, const eval::SummarizeReport& report) {
  Json summaries = Json::array();
  for (const eval::Summary& summary : report.summaries) {
    summaries.push_back({{"text", summary.text},
                         {"num_prompt_tokens", summary.num_prompt_tokens},
                         {"num_output_tokens", summary.num_output_tokens},
                         {"scores", JsonOf(summary.rouge)}});
  }
  return {{"task", "summarize"},
          {"engine_dir", flags.common.engine_dir},
          {"dataset", flags.dataset_dir},
          {"use_stemmer", flags.options.use_stemmer},
          {"num_articles", report.summaries.size()},
          {"seconds", report.seconds},
          {"output_tokens", report.num_output_tokens},
          {"scores", JsonOf(report.mean)},
          {"summaries", std::move(summaries)}};
}

void PrintReport(const eval::SummarizeReport& report) {
  fmt::print("articles       {}\n", report.summaries.size());
  fmt::print("total latency  {:.3f} s\n", report.seconds);
  fmt::print("output tokens  {} ({:.1f} tokens/s)\n", report.num_output_tokens,
             static_cast<double>(report.num_output_tokens) / report.seconds);
  fmt::print("rouge1         {:.4f}\n", report.mean.rouge1.fmeasure * 100.0);
  fmt::print("rouge2         {:.4f}\n", report.mean.rouge2.fmeasure * 100.0);
  fmt::print("rougeL         {:.4f}\n", report.mean.rouge_l.fmeasure * 100.0);
  fmt::print("rougeLsum      {:.4f}\n", report.mean.rouge_lsum.fmeasure * 100.0);
}

Status WriteSummaries(const Flags& flags, const eval::SummarizeReport& report) {
  if (flags.output_dir.empty()) return OkStatus();
  std::string lines;
  for (const eval::Summary& summary : report.summaries) {
    lines += Json(summary.text).dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  }
  return WriteFile(flags.output_dir + "/" + kOutputFile, lines);
}

Status Run(const Flags& flags) {
  TextDatasetOptions dataset;
  dataset.column = flags.article_column;
  dataset.column_flag = "--article_column";
  dataset.wants_targets = true;
  dataset.target_column = flags.summary_column;
  dataset.max_records = int64_t{flags.max_ite} * flags.options.batch_size;
  TRIREME_ASSIGN_OR_RETURN(const std::vector<TextRecord> records,
                           ReadTextDataset(flags.dataset_dir, dataset));
  TRIREME_ASSIGN_OR_RETURN(
      const std::string engine,
      ResolveEngine(flags.common.engine_dir, flags.common.resolve, PlacesFromEnvironment()));
  ExecutorConfig config;
  config.num_threads = flags.common.num_threads;
  Generator::Options places;
  places.tokenizer_dir =
      flags.common.tokenizer_dir.empty() ? flags.hf_model_dir : flags.common.tokenizer_dir;
  TRIREME_ASSIGN_OR_RETURN(const std::unique_ptr<Generator> generator,
                           Generator::Create(engine, config, places));
  StatusOr<eval::SummarizeReport> report = [&] {
    Progress progress;
    return eval::Summarize(*generator, records, flags.options, [&](int64_t done, int64_t total) {
      progress.Update("summarizing", "articles", done, total);
    });
  }();
  if (!report.ok()) return report.status();
  PrintReport(*report);
  TRIREME_RETURN_IF_ERROR(WriteSummaries(flags, *report));
  TRIREME_RETURN_IF_ERROR(WriteReport(flags.common, ReportOf(flags, *report)));
  const double rouge1 = report->mean.rouge1.fmeasure * 100.0;
  if (flags.check_accuracy && rouge1 < flags.rouge1_threshold) {
    return FailedPrecondition("ROUGE-1 is {:.4f}, below the threshold of {:.4f}", rouge1,
                              flags.rouge1_threshold);
  }
  return OkStatus();
}

}  // namespace

int RunEvalSummarize(std::span<const std::string> arguments) {
  Flags flags;
  CommandLine line(kName, "Let an engine summarize articles and score it with ROUGE.",
                   {"trireme eval summarize --engine_dir engine --dataset_dir articles.jsonl",
                    "trireme eval summarize --test_trt_llm --engine_dir engine --hf_model_dir "
                    "Qwen2-0.5B --dataset_dir cnn --max_ite 5 --output_json report.json"});
  AddFlags(line, flags);
  AddOthers(line);
  if (const std::optional<int> code = line.Parse(arguments)) return *code;
  flags.options.add_special_tokens = !flags.common.no_add_special_tokens;
  Status status = PrepareEval(flags.common);
  if (status.ok() && !flags.output_dir.empty()) status = MakeDirectories(flags.output_dir);
  if (!status.ok()) return FailUsage(kName, status);
  status = Run(flags);
  return status.ok() ? kExitOk : Fail(kName, status);
}

}  // namespace trireme::cli
