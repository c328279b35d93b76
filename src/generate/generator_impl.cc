// SPDX-License-Identifier: Apache-2.0
#include "generate/generator_impl.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/mutex.h"
#include "base/status.h"
#include "generate/prompt.h"
#include "generate/text_stream.h"

namespace trireme::generate {
namespace {

// The outputs of one request, for a thread that waits for the last. Thread-safe.
class Collected {
 public:
  void Add(GenerateOutput&& output) {
    MutexLock lock(mutex_);
    is_complete_ = output.is_final;
    outputs_.push_back(std::move(output));
    if (is_complete_) complete_.NotifyAll();
  }
  std::vector<GenerateOutput> WaitForAll() {
    MutexLock lock(mutex_);
    while (!is_complete_) complete_.Wait(mutex_);
    return std::move(outputs_);
  }

 private:
  Mutex mutex_;
  CondVar complete_;
  bool is_complete_ GUARDED_BY(mutex_) = false;
  std::vector<GenerateOutput> outputs_ GUARDED_BY(mutex_);
};

StatusOr<std::vector<std::string>> StopStrings(const GenerateRequest& request) {
  std::vector<std::string> stops;
  for (const std::string& stop : request.stop) {
    TRIREME_RETURN_IF_ERROR(CheckUtf8("stop", stop));
    if (!stop.empty()) stops.push_back(stop);
  }
  return stops;
}

}  // namespace

GeneratorImpl::GeneratorImpl(std::unique_ptr<Executor> executor,
                             std::unique_ptr<Tokenizer> tokenizer,
                             std::unique_ptr<ChatTemplate> chat_template,
                             const GenerationDefaults& defaults)
    : tokenizer_(std::move(tokenizer)),
      chat_template_(std::move(chat_template)),
      defaults_(defaults),
      executor_(std::move(executor)) {}

StatusOr<RequestId> GeneratorImpl::Generate(const GenerateRequest& request,
                                            OutputCallback on_output) {
  TRIREME_ASSIGN_OR_RETURN(Request tokens, ToTokens(request));
  TextStreamOptions options{.streaming = request.streaming,
                            .skip_special_tokens = request.skip_special_tokens,
                            .include_stop_in_output = request.include_stop_in_output,
                            .num_sequences = tokens.sampling.num_return_sequences};
  TRIREME_ASSIGN_OR_RETURN(options.stop, StopStrings(request));
  if (!request.output.exclude_input_from_output) options.echoed_prompt = tokens.prompt;
  // A stop string is seen only in tokens that have come.
  tokens.streaming = request.streaming || !options.stop.empty();
  // Refused counts are for the executor to name.
  options.num_sequences = std::max(0, std::min(options.num_sequences, 1024));

  // Shared: std::function wants copies of what it holds; only the output thread uses it.
  auto stream = std::make_shared<TextStream>(*tokenizer_, options);
  return executor_->Enqueue(
      std::move(tokens), [executor = executor_.get(), stream = std::move(stream),
                          on_output = std::move(on_output)](Response&& response) {
        const RequestId id = response.request_id;
        const bool is_final = response.is_final;
        std::optional<GenerateOutput> output = stream->Take(std::move(response));
        if (!output) return;
        if (output->is_final && !is_final) executor->Cancel(id);
        on_output(std::move(*output));
      });
}

StatusOr<std::vector<GenerateOutput>> GeneratorImpl::GenerateAll(const GenerateRequest& request) {
  GenerateRequest whole = request;
  whole.streaming = false;
  // Shared: the output thread may still be leaving it when the waiting thread goes on.
  auto collected = std::make_shared<Collected>();
  TRIREME_RETURN_IF_ERROR(Generate(whole, [collected](GenerateOutput&& output) {
                            collected->Add(std::move(output));
                          }).status());
  std::vector<GenerateOutput> outputs = collected->WaitForAll();
  std::ranges::sort(outputs, {}, &GenerateOutput::sequence_index);
  for (const GenerateOutput& output : outputs) TRIREME_RETURN_IF_ERROR(output.error);
  return outputs;
}

StatusOr<std::vector<TokenId>> GeneratorImpl::Encode(const GenerateRequest& request) const {
  return EncodePrompt(request, *tokenizer_, chat_template_.get());
}

StatusOr<Request> GeneratorImpl::ToTokens(const GenerateRequest& request) const {
  const EngineInfo& info = executor_->Info();
  Request tokens;
  TRIREME_ASSIGN_OR_RETURN(tokens.prompt, Encode(request));
  tokens.max_tokens = request.max_tokens;
  if (request.max_tokens == 0) {
    tokens.max_tokens = std::max(1, info.max_seq_len - static_cast<int>(tokens.prompt.size()));
  }
  tokens.sampling = request.sampling;
  ApplyDefaults(defaults_, request.sampling_given, info.model.vocab_size, tokens.sampling);
  tokens.output = request.output;
  tokens.output.exclude_input_from_output = true;  // the text stream puts it before the text
  TRIREME_ASSIGN_OR_RETURN(tokens.bad_words,
                           EncodeWords("bad_words", request.bad_words, *tokenizer_));
  tokens.bad_words.insert(tokens.bad_words.end(), request.bad_word_ids.begin(),
                          request.bad_word_ids.end());
  tokens.stop_words = request.stop_word_ids;
  TRIREME_ASSIGN_OR_RETURN(tokens.embedding_bias,
                           MergeBias(request, *tokenizer_, info.model.vocab_size));
  SetEndIds(request, tokens);
  tokens.priority = request.priority;
  tokens.timeout_ms = request.timeout_ms;
  return tokens;
}

void GeneratorImpl::SetEndIds(const GenerateRequest& request, Request& tokens) const {
  std::vector<TokenId> end_ids;
  if (request.end_ids) {
    end_ids = *request.end_ids;
  } else {
    // A tokenizer may know ids that the model cannot produce.
    const int vocab_size = executor_->Info().model.vocab_size;
    for (TokenId id : tokenizer_->end_ids()) {
      if (id >= 0 && id < vocab_size) end_ids.push_back(id);
    }
  }
  if (end_ids.empty()) return;
  tokens.end_id = end_ids.front();
  tokens.extra_end_ids.assign(end_ids.begin() + 1, end_ids.end());
}

}  // namespace trireme::generate

namespace trireme {

std::unique_ptr<Generator> Generator::Create(std::unique_ptr<Executor> executor,
                                             std::unique_ptr<Tokenizer> tokenizer,
                                             std::unique_ptr<ChatTemplate> chat_template) {
  return std::make_unique<generate::GeneratorImpl>(std::move(executor), std::move(tokenizer),
                                                   std::move(chat_template),
                                                   generate::GenerationDefaults());
}

}  // namespace trireme
