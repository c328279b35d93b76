// SPDX-License-Identifier: Apache-2.0
// trireme run: prompts in, text or ids out. Replaces run.py.
#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "base/mapped_file.h"
#include "base/status.h"
#include "cli.h"
#include "commands.h"
#include "formats/npy.h"
#include "generate/generation_defaults.h"
#include "resolve_model.h"
#include "run_flags.h"
#include "trireme/chat_template.h"
#include "trireme/tokenizer.h"

namespace trireme::cli {
namespace {

constexpr std::string_view kName = "run";
constexpr const char* kDefaultText = "Born in north-east France, Soyer trained as a";

// One prompt and what became of it.
struct Prompt {
  std::vector<TokenId> ids;
  std::vector<TokenId> output;
  std::vector<float> log_probs;
  std::vector<float> context_logits;
  std::vector<float> generation_logits;
  float cum_log_prob = 0;
  Status error;
};

class Runner {
 public:
  explicit Runner(RunFlags flags) : flags_(std::move(flags)) {}

  Status Run() {
    TRIREME_ASSIGN_OR_RETURN(flags_.engine_dir, ResolveEngine(flags_.engine_dir, flags_.resolve,
                                                              PlacesFromEnvironment()));
    TRIREME_RETURN_IF_ERROR(LoadTokenizer());
    TRIREME_RETURN_IF_ERROR(LoadPrompts());
    TRIREME_ASSIGN_OR_RETURN(executor_, Executor::Create(flags_.engine_dir, flags_.executor));
    TRIREME_RETURN_IF_ERROR(ReadDefaults());
    TRIREME_RETURN_IF_ERROR(Generate());
    if (!flags_.streaming) {
      for (size_t i = 0; i < prompts_.size(); ++i) PrintPrompt(i), PrintOutput(i);
    }
    for (const Prompt& prompt : prompts_) TRIREME_RETURN_IF_ERROR(prompt.error);
    TRIREME_RETURN_IF_ERROR(WriteOutputs());
    return flags_.run_profiling ? Profile() : OkStatus();
  }

 private:
  bool NeedsTokenizer() const {
    const bool ids_in = flags_.input_file.ends_with(".csv") || flags_.input_file.ends_with(".npy");
    return !ids_in || !flags_.input_text.empty() || flags_.chat || !flags_.stop_words.empty() ||
           !flags_.bad_words.empty() || !flags_.tokenizer_dir.empty();
  }

  std::string TokenizerDir() const {
    if (!flags_.tokenizer_dir.empty()) return flags_.tokenizer_dir;
    namespace fs = std::filesystem;
    return fs::is_directory(flags_.engine_dir) ? flags_.engine_dir
                                               : fs::path(flags_.engine_dir).parent_path().string();
  }

  Status LoadTokenizer() {
    StatusOr<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::Load(TokenizerDir());
    if (tokenizer.ok()) {
      tokenizer_ = std::move(*tokenizer);
      return OkStatus();
    }
    if (!NeedsTokenizer()) return OkStatus();
    return tokenizer.status().WithContext(
        "text needs a tokenizer (--tokenizer_dir; ids in a .csv or .npy need none)");
  }

  // Fills what the flags leave open from the model's generation_config.json.
  Status ReadDefaults() {
    if (flags_.ignore_generation_config) return OkStatus();
    TRIREME_ASSIGN_OR_RETURN(const generate::GenerationDefaults defaults,
                             generate::ReadGenerationDefaults(TokenizerDir()));
    SamplingParams& sampling = flags_.sampling;
    // The default of --top_k is greedy, which is no choice of the user.
    if (!flags_.given.top_k && defaults.top_k) sampling.top_k = 0;
    generate::ApplyDefaults(defaults, flags_.given, executor_->Info().model.vocab_size, sampling);
    LogInfo("sampling temperature={} top_k={} top_p={} repetition_penalty={}", sampling.temperature,
            sampling.top_k, sampling.top_p, sampling.repetition_penalty);
    return OkStatus();
  }

  StatusOr<std::string> ApplyTemplate(const std::string& text) {
    const std::string dir = TokenizerDir();
    StatusOr<std::unique_ptr<ChatTemplate>> chat =
        flags_.chat_template.empty() ? ChatTemplate::Load(dir)
                                     : ChatTemplate::LoadFile(flags_.chat_template, dir);
    if (!chat.ok()) return chat.status();
    nlohmann::json messages = nlohmann::json::array();
    if (!flags_.system.empty()) {
      messages.push_back({{"role", "system"}, {"content", flags_.system}});
    }
    messages.push_back({{"role", "user"}, {"content", text}});
    const nlohmann::json variables = {{"messages", messages}, {"add_generation_prompt", true}};
    return (*chat)->Render(variables.dump());
  }

  Status AddText(const std::string& text) {
    std::string fed = text;
    if (flags_.chat) {
      TRIREME_ASSIGN_OR_RETURN(fed, ApplyTemplate(text));
    }
    // A template writes its special tokens itself.
    const bool add_special = !flags_.no_add_special_tokens && !flags_.chat;
    TRIREME_ASSIGN_OR_RETURN(prompts_.emplace_back().ids, tokenizer_->Encode(fed, add_special));
    return OkStatus();
  }

  Status LoadPrompts() {
    if (flags_.input_file.empty()) {
      if (flags_.input_text.empty()) flags_.input_text.push_back(kDefaultText);
      for (const std::string& text : flags_.input_text) TRIREME_RETURN_IF_ERROR(AddText(text));
    } else if (flags_.input_file.ends_with(".txt")) {
      TRIREME_ASSIGN_OR_RETURN(const std::string text, ReadFile(flags_.input_file, 1 << 30));
      for (size_t begin = 0; begin < text.size();) {
        const size_t end = std::min(text.find('\n', begin), text.size());
        if (end > begin) TRIREME_RETURN_IF_ERROR(AddText(text.substr(begin, end - begin)));
        begin = end + 1;
      }
    } else {
      TRIREME_ASSIGN_OR_RETURN(const IdRows rows, ReadIdRows(flags_.input_file));
      for (const std::vector<int32_t>& row : rows) prompts_.emplace_back().ids = row;
    }
    for (Prompt& prompt : prompts_) {
      const size_t limit = static_cast<size_t>(std::max(0, flags_.max_input_length));
      if (limit > 0 && prompt.ids.size() > limit) {
        prompt.ids.erase(prompt.ids.begin(), prompt.ids.end() - static_cast<std::ptrdiff_t>(limit));
      }
    }
    return prompts_.empty() ? InvalidArgument("there is no prompt in '{}'", flags_.input_file)
                            : OkStatus();
  }

  StatusOr<std::vector<std::vector<TokenId>>> EncodeWords(const std::vector<std::string>& words) {
    std::vector<std::vector<TokenId>> lists;
    for (const std::string& word : words) {
      for (const std::string& form : {word, " " + word}) {
        TRIREME_ASSIGN_OR_RETURN(lists.emplace_back(), tokenizer_->Encode(form, false));
      }
    }
    return lists;
  }

  StatusOr<Request> MakeRequest(const Prompt& prompt) {
    Request request;
    request.prompt = prompt.ids;
    request.max_tokens = flags_.max_output_len;
    request.streaming = flags_.streaming;
    request.sampling = flags_.sampling;
    request.output.return_log_probs =
        !flags_.output_log_probs_npy.empty() || !flags_.output_cum_log_probs_npy.empty();
    request.output.return_context_logits = !flags_.output_context_logits_npy.empty();
    request.output.return_generation_logits = !flags_.output_logits_npy.empty();
    if (flags_.end_id >= 0) {
      request.end_id = flags_.end_id;
    } else if (flags_.end_id == -2 && tokenizer_ != nullptr) {
      const std::vector<int32_t> ends = tokenizer_->end_ids();
      if (!ends.empty()) {
        request.end_id = ends.front();
        request.extra_end_ids.assign(ends.begin() + 1, ends.end());
      }
    }
    TRIREME_ASSIGN_OR_RETURN(request.bad_words, EncodeWords(flags_.bad_words));
    return request;
  }

  Status Generate() {
    std::vector<RequestId> ids;
    for (const Prompt& prompt : prompts_) {
      TRIREME_ASSIGN_OR_RETURN(Request request, MakeRequest(prompt));
      StatusOr<RequestId> id = executor_->Enqueue(std::move(request));
      if (!id.ok())
        return WithFlagNames(id.status()).WithContext(fmt::format("text {}", ids.size()));
      ids.push_back(*id);
      // A stream is read by a person: one prompt after the other.
      if (flags_.streaming) Collect(ids.size() - 1, ids.back());
    }
    if (!flags_.streaming) {
      for (size_t i = 0; i < ids.size(); ++i) Collect(i, ids[i]);
    }
    return OkStatus();
  }

  // Gathers the responses of one request; with --streaming prints text as it comes.
  void Collect(size_t index, RequestId id) {
    Prompt& prompt = prompts_[index];
    std::optional<Detokenizer> detokenizer;
    if (tokenizer_ != nullptr) {
      detokenizer.emplace(*tokenizer_, DetokenizerOptions{.stop_strings = flags_.stop_words});
    }
    if (flags_.streaming) {
      PrintPrompt(index);
      fmt::print("Output [Text {} Beam 0]: \"", index);
    }
    std::string pending;
    int since_print = 0;
    for (bool final = false; !final;) {
      for (Response& response : executor_->AwaitResponses(id)) {
        final = response.is_final;
        prompt.error = response.error;
        Append(prompt.log_probs, response.log_probs);
        Append(prompt.context_logits, response.context_logits);
        Append(prompt.generation_logits, response.generation_logits);
        prompt.cum_log_prob = response.cum_log_prob;
        for (TokenId token : response.tokens) {
          if (detokenizer && detokenizer->stopped()) break;
          prompt.output.push_back(token);
          if (detokenizer) {
            pending += detokenizer->Append(token);
          } else {
            pending += fmt::format("{}{}", prompt.output.size() > 1 ? "," : "", token);
          }
          ++since_print;
        }
        if (detokenizer && detokenizer->stopped()) executor_->Cancel(id);
        if (final && detokenizer) pending += detokenizer->Finish();
        if (flags_.streaming && (final || since_print >= flags_.streaming_interval)) {
          fmt::print("{}", pending);
          std::fflush(stdout);
          pending.clear();
          since_print = 0;
        }
      }
    }
    if (flags_.streaming) {
      fmt::print("\"\n");
    } else {
      texts_.resize(prompts_.size());
      texts_[index] = std::move(pending);
    }
  }

  static void Append(std::vector<float>& to, const std::vector<float>& from) {
    to.insert(to.end(), from.begin(), from.end());
  }

  void PrintPrompt(size_t index) {
    const std::vector<TokenId>& ids = prompts_[index].ids;
    std::string text = fmt::format("{}", fmt::join(ids, ","));
    if (tokenizer_ != nullptr) {
      StatusOr<std::string> decoded = tokenizer_->Decode(ids, /*skip_special_tokens=*/false);
      if (decoded.ok()) text = std::move(*decoded);
    }
    fmt::print("Input [Text {}]: \"{}\"\n", index, text);
  }

  void PrintOutput(size_t index) {
    fmt::print("Output [Text {} Beam 0]: \"{}\"\n", index, texts_[index]);
  }

  // Rows of different lengths as one zero-padded float32 [prompts, longest, width].
  Status WriteFloats(const std::string& path, std::vector<float> Prompt::*field, int64_t width) {
    if (path.empty()) return OkStatus();
    size_t longest = 0;
    for (const Prompt& prompt : prompts_) longest = std::max(longest, (prompt.*field).size());
    const int64_t rows = static_cast<int64_t>(longest) / width;
    const int64_t count = static_cast<int64_t>(prompts_.size());
    HostTensor tensor(DType::kFloat32, width == 1 ? Shape{count, rows} : Shape{count, rows, width});
    for (int64_t i = 0; i < count; ++i) {
      const std::vector<float>& values = prompts_[static_cast<size_t>(i)].*field;
      std::copy(values.begin(), values.end(), tensor.as<float>() + i * rows * width);
    }
    return WriteNpy(path, tensor.view());
  }

  Status WriteIds() {
    IdRows rows;
    size_t longest = 0;
    for (const Prompt& prompt : prompts_) {
      rows.push_back(prompt.ids);
      rows.back().insert(rows.back().end(), prompt.output.begin(), prompt.output.end());
      longest = std::max(longest, rows.back().size());
    }
    if (!flags_.output_csv.empty())
      TRIREME_RETURN_IF_ERROR(WriteFile(flags_.output_csv, IdCsv(rows)));
    if (flags_.output_npy.empty()) return OkStatus();
    int32_t pad = std::max(0, flags_.end_id);
    if (flags_.end_id == -2 && tokenizer_ != nullptr) pad = tokenizer_->eos_id().value_or(0);
    HostTensor tensor(DType::kInt32,
                      {static_cast<int64_t>(rows.size()), static_cast<int64_t>(longest)});
    for (size_t i = 0; i < rows.size(); ++i) {
      rows[i].resize(longest, pad);
      std::copy(rows[i].begin(), rows[i].end(), tensor.as<int32_t>() + i * longest);
    }
    return WriteNpy(flags_.output_npy, tensor.view());
  }

  Status WriteOutputs() {
    const int64_t vocab = executor_->Info().model.vocab_size;
    TRIREME_RETURN_IF_ERROR(WriteIds());
    TRIREME_RETURN_IF_ERROR(
        WriteFloats(flags_.output_logits_npy, &Prompt::generation_logits, vocab));
    TRIREME_RETURN_IF_ERROR(
        WriteFloats(flags_.output_context_logits_npy, &Prompt::context_logits, vocab));
    TRIREME_RETURN_IF_ERROR(WriteFloats(flags_.output_log_probs_npy, &Prompt::log_probs, 1));
    if (flags_.output_cum_log_probs_npy.empty()) return OkStatus();
    HostTensor sums(DType::kFloat32, {static_cast<int64_t>(prompts_.size())});
    for (size_t i = 0; i < prompts_.size(); ++i) sums.as<float>()[i] = prompts_[i].cum_log_prob;
    return WriteNpy(flags_.output_cum_log_probs_npy, sums.view());
  }

  Status Profile() {
    constexpr int kRuns = 10;
    int64_t tokens = 0;
    const auto begin = std::chrono::steady_clock::now();
    for (int run = 0; run < kRuns; ++run) {
      std::vector<RequestId> ids;
      for (const Prompt& prompt : prompts_) {
        TRIREME_ASSIGN_OR_RETURN(Request request, MakeRequest(prompt));
        request.streaming = false;
        TRIREME_ASSIGN_OR_RETURN(ids.emplace_back(), executor_->Enqueue(std::move(request)));
      }
      for (RequestId id : ids) {
        for (bool final = false; !final;) {
          for (const Response& response : executor_->AwaitResponses(id)) {
            tokens += static_cast<int64_t>(response.tokens.size());
            final = response.is_final;
          }
        }
      }
    }
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    fmt::print("batch_size: {}, avg latency of {} iterations: {:.4f} sec, {:.1f} tokens/s\n",
               prompts_.size(), kRuns, seconds / kRuns, static_cast<double>(tokens) / seconds);
    return OkStatus();
  }

  RunFlags flags_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<Executor> executor_;
  std::vector<Prompt> prompts_;
  std::vector<std::string> texts_;
};

}  // namespace

int RunRun(std::span<const std::string> arguments) {
  RunFlags flags;
  CommandLine line(
      kName, "Generate text with an engine.",
      {"trireme run --engine_dir engine --max_output_len 64 --input_text \"Once upon a time\"",
       "trireme run --engine_dir engine --max_output_len 64 --chat --input_text \"Hello\" "
       "--streaming",
       "trireme run --engine_dir engine --max_output_len 32 --input_file ids.csv --output_npy "
       "out.npy"});
  AddRunFlags(line, flags);
  if (const std::optional<int> code = line.Parse(arguments)) return *code;
  if (const Status status = FinishRunFlags(line, flags); !status.ok())
    return FailUsage(kName, status);
  const Status status = Runner(std::move(flags)).Run();
  return status.ok() ? kExitOk : Fail(kName, status);
}

}  // namespace trireme::cli
