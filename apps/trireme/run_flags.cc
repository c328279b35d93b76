// SPDX-License-Identifier: Apache-2.0
#include "run_flags.h"

#include <cctype>

#include "base/log.h"
#include "base/status.h"
#include "executor/validation.h"

namespace trireme::cli {
namespace {

void AddValues(CommandLine& line, RunFlags& f) {
  line.Add("--engine_dir", f.engine_dir,
           "engine directory, one .engine file, or what `trireme serve` takes as a model");
  line.Add("--tokenizer_dir", f.tokenizer_dir, "tokenizer; default: the engine's own");
  line.AddList("--input_text", f.input_text, "prompts; may be repeated");
  line.Add("--input_file", f.input_file,
           "prompts from a .csv or .npy of ids, or a .txt, one a line");
  line.Add("--max_input_length", f.max_input_length,
           "keep the last that many tokens of a prompt; 0: refuse one that is too long",
           kTokenCounts);
  line.Add("--max_output_len,--max_new_tokens", f.max_output_len, "new tokens at most", kPositive);
  line.Require("--max_output_len");
  line.Add("--end_id", f.end_id, "token that ends a text; -1: never stop; -2: the tokenizer's",
           {-2, INT32_MAX});
  line.AddSwitch("--no_add_special_tokens", f.no_add_special_tokens,
                 "do not add the tokenizer's special tokens to the prompt");
  line.AddSwitch("--chat", f.chat, "the prompt is a user's message: apply the chat template");
  line.Add("--system", f.system, "system message, with --chat");
  line.Add("--chat_template", f.chat_template, "file with a template, instead of the model's own");
  line.AddSwitch("--streaming", f.streaming, "print text as it comes");
  line.Add("--streaming_interval", f.streaming_interval, "tokens between two prints", kPositive);
  line.Add("--temperature", f.sampling.temperature, "divides the logits", {1e-30, 1e30});
  f.sampling.top_k = 1;
  line.Add("--top_k", f.sampling.top_k, "sample among that many; 1: greedy; 0: no limit",
           kNotNegative);
  line.Add("--top_p", f.sampling.top_p, "sample among the fewest of that probability; 0: off",
           {0, 1});
  line.Add("--min_p", f.sampling.min_p,
           "drop tokens below that share of the best one's probability", {0, 1});
  line.Add("--random_seed", f.sampling.seed, "equal seeds repeat");
  line.Add("--repetition_penalty", f.sampling.repetition_penalty, "1: none", {1e-30, 1e30});
  line.Add("--presence_penalty", f.sampling.presence_penalty, "0: none");
  line.Add("--frequency_penalty", f.sampling.frequency_penalty, "0: none");
  line.Add("--no_repeat_ngram_size", f.sampling.no_repeat_ngram_size, "0: off", kNotNegative);
  line.Add("--min_length", f.sampling.min_tokens, "new tokens before the end token may come",
           kNotNegative);
  line.AddSwitch("--ignore_generation_config", f.ignore_generation_config,
                 "sampling values that are not given take the defaults above, whatever the model's "
                 "generation_config.json says");
  line.AddList("--stop_words", f.stop_words, "texts that end the output");
  line.AddList("--bad_words", f.bad_words, "texts that must not come");
  line.Add("--output_csv", f.output_csv, "write prompt and output ids, a line per prompt");
  line.Add("--output_npy", f.output_npy,
           "write prompt and output ids, int32 [prompts, longest], padded with the end id");
  line.Add("--output_logits_npy", f.output_logits_npy,
           "write generation logits, float32 [prompts, new tokens, vocab], zero-padded");
  line.Add("--output_context_logits_npy", f.output_context_logits_npy,
           "write the prompts' logits, float32 [prompts, longest prompt, vocab], zero-padded");
  line.Add("--output_log_probs_npy", f.output_log_probs_npy,
           "write log probabilities, float32 [prompts, new tokens], zero-padded");
  line.Add("--output_cum_log_probs_npy", f.output_cum_log_probs_npy,
           "write their sums, float32 [prompts]");
  line.AddSwitch("--run_profiling", f.run_profiling,
                 "run once to warm up, then 10 times, and time it");
  line.Add("--kv_cache_free_gpu_mem_fraction,--kv_cache_free_gpu_memory_fraction",
           f.executor.kv_cache.free_memory_fraction,
           "share of free memory for the KV cache, between 0 and 1");
  line.Add("--max_seq_len", f.executor.max_seq_len, "prompt and output together; 0: as built",
           kTokenCounts);
  line.Add("--num_threads", f.executor.num_threads, "0: one per processor", kThreads);
  line.AddSwitch("--verify_weights", f.executor.verify_weights,
                 "read all weights against their checksums before starting");
  line.Add("--device", f.resolve.device,
           "device of an engine built here: cpu, cuda, or auto (cuda where a GPU is found)");
  line.Add("--dtype", f.resolve.dtype, "of an engine built here");
  AddDeviceFlags(line, f.device);
  line.Add("--log_level", f.log_level, "verbosity: debug, info, warning, error");
}

void AddOthers(CommandLine& line) {
  line.AddNoEffect("--enable_chunked_context", "prompts are always chunked when they must be");
  line.AddNoEffect("--use_py_session", "there is one session, in C++");
  line.AddNoEffect("--no_prompt_template", "text is fed as it is unless --chat is given");
  line.AddNoEffect("--tokenizer_type", "the tokenizer's files say what it is");
  line.AddNoEffect("--gpu_weights_percent", "weights are mapped from the engine file");
  line.AddNoEffect("--early_stopping", "only beam search reads it");
  line.AddNoEffect("--length_penalty", "only beam search reads it");
  line.AddNoEffect("--debug_mode", "use --log_level debug");
  line.AddRefused("--num_beams", "beam search does not exist yet", {"1"});
  line.AddRefused("--vocab_file", "give the folder that holds it as --tokenizer_dir");
  line.AddRefused("--max_attention_window_size",
                  "windows other than the model's own do not exist yet");
  line.AddRefused("--sink_token_length", "sink tokens do not exist yet");
  line.AddRefused("--prompt_table_path", "prompt tuning does not exist yet");
  line.AddRefused("--prompt_tasks", "prompt tuning does not exist yet");
  line.AddRefused("--num_prepend_vtokens", "prompt tuning does not exist yet");
  line.AddRefused("--lora_dir", "adapters at run time do not exist yet");
  line.AddRefused("--lora_task_uids", "adapters at run time do not exist yet");
  line.AddRefused("--lora_ckpt_source", "adapters at run time do not exist yet");
  line.AddRefused("--medusa_choices", "Medusa does not exist yet");
}

Status CheckWords(std::string_view flag, const std::vector<std::string>& words) {
  for (const std::string& word : words) {
    if (word.empty()) return InvalidArgument("{} has an empty text; leave it out", flag);
  }
  return OkStatus();
}

// Fields of a request and their flags.
constexpr std::pair<std::string_view, std::string_view> kFlagOfField[] = {
    {"max_tokens", "--max_output_len"},
    {"min_tokens", "--min_length"},
    {"max_seq_len", "--max_seq_len"},
    {"temperature", "--temperature"},
    {"top_k", "--top_k"},
    {"top_p", "--top_p"},
    {"min_p", "--min_p"},
    {"repetition_penalty", "--repetition_penalty"},
    {"presence_penalty", "--presence_penalty"},
    {"frequency_penalty", "--frequency_penalty"},
    {"no_repeat_ngram_size", "--no_repeat_ngram_size"},
    {"end_id", "--end_id"},
    {"bad_words", "--bad_words"},
};

}  // namespace

void AddRunFlags(CommandLine& line, RunFlags& flags) {
  AddValues(line, flags);
  AddOthers(line);
}

Status FinishRunFlags(const CommandLine& line, RunFlags& f) {
  f.given = {.temperature = line.Given("--temperature"),
             .top_k = line.Given("--top_k"),
             .top_p = line.Given("--top_p"),
             .repetition_penalty = line.Given("--repetition_penalty")};
  TRIREME_RETURN_IF_ERROR(SetLogLevel(f.log_level).WithContext("--log_level"));
  if (!f.input_file.empty() && !f.input_text.empty()) {
    return InvalidArgument("give either --input_text or --input_file");
  }
  const bool known_form = f.input_file.ends_with(".txt") || f.input_file.ends_with(".csv") ||
                          f.input_file.ends_with(".npy");
  if (!f.input_file.empty() && !known_form) {
    return InvalidArgument(
        "--input_file '{}' must end in .txt (a prompt a line), .csv or .npy (token ids)",
        f.input_file);
  }
  if (!f.chat && (!f.system.empty() || !f.chat_template.empty())) {
    return InvalidArgument("--system and --chat_template go with --chat");
  }
  TRIREME_RETURN_IF_ERROR(CheckWords("--stop_words", f.stop_words));
  TRIREME_RETURN_IF_ERROR(CheckWords("--bad_words", f.bad_words));
  for (const auto& [flag, path] : {std::pair("--output_csv", &f.output_csv),
                                   {"--output_npy", &f.output_npy},
                                   {"--output_logits_npy", &f.output_logits_npy},
                                   {"--output_context_logits_npy", &f.output_context_logits_npy},
                                   {"--output_log_probs_npy", &f.output_log_probs_npy},
                                   {"--output_cum_log_probs_npy", &f.output_cum_log_probs_npy}}) {
    TRIREME_RETURN_IF_ERROR(CheckOutputPath(flag, *path));
  }
  TRIREME_RETURN_IF_ERROR(CheckOptions(f.resolve));
  TRIREME_RETURN_IF_ERROR(ApplyDeviceFlags(f.device, f.executor));
  return executor::ValidateConfig(f.executor);
}

Status WithFlagNames(const Status& status) {
  const auto is_word = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
  };
  const std::string_view message = status.message();
  std::string text;
  for (size_t begin = 0; begin < message.size();) {
    size_t end = begin;
    while (end < message.size() && is_word(message[end])) ++end;
    std::string_view word = message.substr(begin, std::max<size_t>(1, end - begin));
    begin += word.size();
    for (const auto& [field, flag] : kFlagOfField) {
      if (word == field) word = flag;
    }
    text += word;
  }
  return Status(status.code(), std::move(text));
}

}  // namespace trireme::cli
