// SPDX-License-Identifier: Apache-2.0
#include "server/backends/llm/llm_engine.h"

#include "base/log.h"
#include "base/log_text.h"
#include "base/status.h"

namespace trireme::server {
namespace {

Request ToTokens(const GenerateRequest& from) {
  Request to;
  to.prompt = from.prompt_ids;
  to.max_tokens = from.max_tokens;
  to.streaming = from.streaming;
  to.sampling = from.sampling;
  to.output = from.output;
  to.bad_words = from.bad_word_ids;
  to.stop_words = from.stop_word_ids;
  to.embedding_bias = from.embedding_bias;
  if (from.end_ids && !from.end_ids->empty()) {
    to.end_id = from.end_ids->front();
    to.extra_end_ids.assign(from.end_ids->begin() + 1, from.end_ids->end());
  }
  to.priority = from.priority;
  to.timeout_ms = from.timeout_ms;
  return to;
}

GenerateOutput ToOutput(Response&& from) {
  GenerateOutput to;
  to.request_id = from.request_id;
  to.sequence_index = from.sequence_index;
  to.error = std::move(from.error);
  to.is_sequence_final = from.is_sequence_final;
  to.is_final = from.is_final;
  to.finish_reason = from.finish_reason;
  to.tokens = std::move(from.tokens);
  to.log_probs = std::move(from.log_probs);
  to.cum_log_prob = from.cum_log_prob;
  to.context_logits = std::move(from.context_logits);
  to.generation_logits = std::move(from.generation_logits);
  to.num_prompt_tokens = from.num_prompt_tokens;
  to.num_cached_tokens = from.num_cached_tokens;
  to.times = from.times;
  return to;
}

// Sums tokens of each sequence; on the executor's one output thread.
class OutputCounter {
 public:
  explicit OutputCounter(bool echoes_prompt) : echoes_prompt_(echoes_prompt) {}
  void Count(GenerateOutput& output) {
    int& count = counts_[output.sequence_index];
    const bool has_prompt = echoes_prompt_ && count == 0 && !output.tokens.empty();
    count += static_cast<int>(output.tokens.size()) - (has_prompt ? output.num_prompt_tokens : 0);
    output.num_output_tokens = count;
  }

 private:
  const bool echoes_prompt_;
  std::map<int, int> counts_;
};

}  // namespace

LlmEngine::LlmEngine(std::shared_ptr<Generator> generator)
    : generator_(std::move(generator)), executor_(generator_, &generator_->executor()) {}

LlmEngine::LlmEngine(std::shared_ptr<Executor> executor) : executor_(std::move(executor)) {}

StatusOr<std::unique_ptr<LlmEngine>> LlmEngine::Load(const std::string& path, bool needs_text,
                                                     const ExecutorConfig& config,
                                                     Generator::Options options) {
  if (!needs_text) {
    const std::string tokenizer = options.tokenizer_dir.empty() ? path : options.tokenizer_dir;
    if (const auto loaded = Tokenizer::Load(tokenizer); !loaded.ok()) {
      LogInfo("llm_without_tokenizer path={} reason={}", tokenizer,
              Quoted(loaded.status().message()));
      TRIREME_ASSIGN_OR_RETURN(std::unique_ptr<Executor> executor, Executor::Create(path, config));
      return std::make_unique<LlmEngine>(std::shared_ptr<Executor>(std::move(executor)));
    }
  }
  TRIREME_ASSIGN_OR_RETURN(std::unique_ptr<Generator> generator,
                           Generator::Create(path, config, options));
  return std::make_unique<LlmEngine>(std::shared_ptr<Generator>(std::move(generator)));
}

StatusOr<RequestId> LlmEngine::Start(const GenerateRequest& request, bool as_text,
                                     Generator::OutputCallback on_output) {
  if (as_text) return generator_->Generate(request, std::move(on_output));
  auto counter = std::make_shared<OutputCounter>(!request.output.exclude_input_from_output);
  return executor_->Enqueue(ToTokens(request),
                            [counter, on_output = std::move(on_output)](Response&& response) {
                              GenerateOutput output = ToOutput(std::move(response));
                              counter->Count(output);
                              on_output(std::move(output));
                            });
}

std::vector<TokenId> LlmEngine::end_ids() const {
  if (generator_ == nullptr) return {};
  std::vector<TokenId> ids;
  for (const TokenId id : generator_->tokenizer().end_ids()) {
    if (id >= 0 && id < executor_->Info().model.vocab_size) ids.push_back(id);
  }
  return ids;
}

}  // namespace trireme::server
