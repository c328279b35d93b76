// SPDX-License-Identifier: Apache-2.0
#include "eval/summarize.h"

#include <algorithm>
#include <chrono>
#include <future>
#include <memory>

namespace trireme::eval {
namespace {

constexpr std::string_view kRequest = " TL;DR:";

Status CheckOptions(const SummarizeOptions& options, std::span<const TextRecord> records,
                    int max_seq_len) {
  if (records.empty()) return InvalidArgument("there is no article to summarize");
  for (const TextRecord& record : records) {
    if (record.targets.empty()) return InvalidArgument("an article has no summary to score with");
  }
  if (options.batch_size < 1) {
    return InvalidArgument("--batch_size {} must be 1 or more", options.batch_size);
  }
  if (options.output_len < 1 || options.output_len >= max_seq_len) {
    return InvalidArgument("--output_len {} must be from 1 to {}, below the engine's max_seq_len",
                           options.output_len, max_seq_len - 1);
  }
  return OkStatus();
}

// The article and the request; of an article that is too long the end gives way, so that the
// request stays.
StatusOr<std::vector<TokenId>> MakePrompt(const Tokenizer& tokenizer, std::string_view article,
                                          size_t max_tokens, bool add_special_tokens) {
  TRIREME_ASSIGN_OR_RETURN(
      std::vector<TokenId> prompt,
      tokenizer.Encode(std::string(article) + std::string(kRequest), add_special_tokens));
  if (prompt.size() <= max_tokens) return prompt;
  TRIREME_ASSIGN_OR_RETURN(const std::vector<TokenId> request,
                           tokenizer.Encode(kRequest, /*add_special_tokens=*/false));
  if (request.size() >= max_tokens) {
    return InvalidArgument(
        "a prompt of {} tokens has no room for an article; raise --max_input_length or the "
        "engine's max_seq_len, or lower --output_len",
        max_tokens);
  }
  TRIREME_ASSIGN_OR_RETURN(prompt, tokenizer.Encode(article, add_special_tokens));
  prompt.resize(std::min(prompt.size(), max_tokens - request.size()));
  prompt.insert(prompt.end(), request.begin(), request.end());
  return prompt;
}

class Summarizer {
 public:
  Summarizer(Generator& generator, const SummarizeOptions& options)
      : generator_(generator), options_(options) {
    const int room = generator.executor().Info().max_seq_len - options.output_len;
    max_prompt_tokens_ = static_cast<size_t>(std::clamp(options.max_input_length, 0, room));
  }

  // Submits the records at once and waits for all of them, whatever becomes of each.
  Status RunBatch(std::span<const TextRecord> records, std::vector<Summary>& summaries) {
    std::vector<std::future<GenerateOutput>> outputs;
    Status first_error;
    for (const TextRecord& record : records) {
      StatusOr<std::future<GenerateOutput>> output = Submit(record);
      if (output.ok()) {
        outputs.push_back(std::move(*output));
      } else {
        first_error = output.status();
        break;
      }
    }
    for (size_t i = 0; i < outputs.size(); ++i) {
      GenerateOutput output = outputs[i].get();
      if (first_error.ok()) first_error = output.error;
      Summary& summary = summaries.emplace_back();
      summary.text = std::move(output.text);
      summary.num_prompt_tokens = output.num_prompt_tokens;
      summary.num_output_tokens = output.num_output_tokens;
      summary.rouge = ScoreRougeBest(records[i].targets, summary.text, options_.use_stemmer);
    }
    return first_error;
  }

 private:
  StatusOr<std::future<GenerateOutput>> Submit(const TextRecord& record) {
    GenerateRequest request;
    TRIREME_ASSIGN_OR_RETURN(request.prompt_ids,
                             MakePrompt(generator_.tokenizer(), record.text, max_prompt_tokens_,
                                        options_.add_special_tokens));
    request.max_tokens = options_.output_len;
    request.sampling = options_.sampling;
    auto promise = std::make_shared<std::promise<GenerateOutput>>();  // outlives either thread
    std::future<GenerateOutput> output = promise->get_future();
    TRIREME_RETURN_IF_ERROR(generator_
                                .Generate(request,
                                          [promise](GenerateOutput&& got) {
                                            if (got.is_final) promise->set_value(std::move(got));
                                          })
                                .status());
    return output;
  }

  Generator& generator_;
  const SummarizeOptions& options_;
  size_t max_prompt_tokens_ = 0;
};

RougeScores MeanOf(std::span<const Summary> summaries) {
  RougeScores mean;
  const auto count = static_cast<double>(summaries.size());
  for (RougeScore RougeScores::*kind : {&RougeScores::rouge1, &RougeScores::rouge2,
                                        &RougeScores::rouge_l, &RougeScores::rouge_lsum}) {
    for (const Summary& summary : summaries) {
      (mean.*kind).precision += (summary.rouge.*kind).precision / count;
      (mean.*kind).recall += (summary.rouge.*kind).recall / count;
      (mean.*kind).fmeasure += (summary.rouge.*kind).fmeasure / count;
    }
  }
  return mean;
}

}  // namespace

StatusOr<SummarizeReport> Summarize(Generator& generator, std::span<const TextRecord> records,
                                    const SummarizeOptions& options,
                                    const SummarizeProgressFn& progress) {
  using Clock = std::chrono::steady_clock;
  TRIREME_RETURN_IF_ERROR(CheckOptions(options, records, generator.executor().Info().max_seq_len));
  Summarizer summarizer(generator, options);
  SummarizeReport report;
  const auto batch_size = static_cast<size_t>(options.batch_size);
  const Clock::time_point begin = Clock::now();
  for (size_t done = 0; done < records.size();) {
    const size_t size = std::min(batch_size, records.size() - done);
    TRIREME_RETURN_IF_ERROR(summarizer.RunBatch(records.subspan(done, size), report.summaries));
    done += size;
    if (progress) progress(static_cast<int64_t>(done), static_cast<int64_t>(records.size()));
  }
  report.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  for (const Summary& summary : report.summaries) {
    report.num_output_tokens += summary.num_output_tokens;
  }
  report.mean = MeanOf(report.summaries);
  return report;
}

}  // namespace trireme::eval
