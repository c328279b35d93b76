// SPDX-License-Identifier: Apache-2.0
// Generator: text in, text out, streamed, over an Executor, a Tokenizer and a ChatTemplate.
// Thread-safe. Prompts are tokenized on the caller's thread; text comes on the executor's output
// thread.
//
//   auto generator = trireme::Generator::Create("engine_dir", {}).value();
//   auto outputs = generator->GenerateAll({.prompt = "Once upon a time", .max_tokens = 32}).value();
//   puts(outputs[0].text.c_str());
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "trireme/chat_template.h"
#include "trireme/executor.h"
#include "trireme/request.h"
#include "trireme/status.h"
#include "trireme/tokenizer.h"

namespace trireme {

// Which sampling values a caller chose, where its model's publisher may have chosen others (see
// Generator::Options). A value that differs from SamplingParams' own counts as chosen in any case.
struct SamplingGiven {
  bool temperature = false;
  bool top_k = false;
  bool top_p = false;
  bool repetition_penalty = false;
};

struct GenerateRequest {
  // Exactly one of the three.
  std::optional<std::string> prompt;  // UTF-8
  std::vector<TokenId> prompt_ids;
  std::string messages_json;  // [{"role": "user", "content": "..."}, ...]; needs a chat template

  bool add_special_tokens = true;  // to `prompt`
  std::string tools_json;          // for the chat template: an array, or empty
  // Further variables of the chat template: an object, or empty. add_generation_prompt is true
  // unless it says otherwise.
  std::string template_variables_json;

  int max_tokens = 0;  // 0: what max_seq_len leaves behind the prompt
  SamplingParams sampling;
  SamplingGiven sampling_given;
  bool streaming = false;
  // Generation ends before the first of these texts to appear; empty ones are ignored.
  std::vector<std::string> stop;
  bool include_stop_in_output = false;
  // Never generated, with or without a space before them; empty ones are ignored.
  std::vector<std::string> bad_words;
  std::vector<std::vector<TokenId>> stop_word_ids;
  std::vector<std::vector<TokenId>> bad_word_ids;
  // Tokens that end a sequence; unset: those of the model. Empty: none.
  std::optional<std::vector<TokenId>> end_ids;
  std::map<TokenId, float> logit_bias;
  // Added to the logits of every token of the text.
  std::vector<std::pair<std::string, float>> embedding_bias_words;
  std::vector<float> embedding_bias;  // empty or [vocab_size]

  bool skip_special_tokens = true;
  OutputConfig output;  // without exclude_input_from_output the text begins with the prompt's
  float priority = 0.5f;
  int64_t timeout_ms = 0;
};

// With streaming what came since the last output, else everything. Each sequence has one output
// with is_sequence_final; the last of them has is_final.
struct GenerateOutput {
  RequestId request_id = 0;
  int sequence_index = 0;
  Status error;  // not OK: final, and the fields below hold what was reached before
  bool is_sequence_final = false;
  bool is_final = false;
  FinishReason finish_reason = FinishReason::kNotFinished;
  std::string stop_string;  // the one of `stop` that ended the text
  std::string text;
  // The tokens and their log probabilities. Text may lag behind: part of a character or of a
  // stop string is held back until it is certain.
  std::vector<TokenId> tokens;
  std::vector<float> log_probs;
  float cum_log_prob = 0;
  std::vector<float> context_logits;     // as in Response
  std::vector<float> generation_logits;  // as in Response
  int num_prompt_tokens = 0;
  int num_cached_tokens = 0;
  int num_output_tokens = 0;  // of the sequence, so far
  TokenTimes times;           // of the sequence; text may come later than its tokens
};

class Generator {
 public:
  struct Options {
    std::string tokenizer_dir;       // empty: the engine directory
    std::string chat_template_file;  // empty: the template of the tokenizer's folder, if any
    // Sampling values that a request leaves open come from generation_config.json of the tokenizer's
    // folder; a request with top_k 1 leaves none open.
    bool use_generation_config = false;
  };
  static StatusOr<std::unique_ptr<Generator>> Create(const std::string& engine_dir,
                                                     const ExecutorConfig& config,
                                                     const Options& options);
  static StatusOr<std::unique_ptr<Generator>> Create(const std::string& engine_dir,
                                                     const ExecutorConfig& config) {
    return Create(engine_dir, config, Options());
  }
  // `chat_template` may be null: then messages are refused.
  static std::unique_ptr<Generator> Create(std::unique_ptr<Executor> executor,
                                           std::unique_ptr<Tokenizer> tokenizer,
                                           std::unique_ptr<ChatTemplate> chat_template);
  // Cancels what is left.
  virtual ~Generator() = default;

  // Runs on the executor's output thread: must return soon, and may call Generate and Cancel only.
  using OutputCallback = std::function<void(GenerateOutput&&)>;
  virtual StatusOr<RequestId> Generate(const GenerateRequest& request,
                                       OutputCallback on_output) = 0;
  // Waits for the end; one output for each sequence, whole. A failure of the run is its status.
  virtual StatusOr<std::vector<GenerateOutput>> GenerateAll(const GenerateRequest& request) = 0;
  virtual void Cancel(RequestId id) = 0;

  // The prompt as the model gets it: rendered and tokenized, not run.
  virtual StatusOr<std::vector<TokenId>> Encode(const GenerateRequest& request) const = 0;

  virtual Executor& executor() = 0;
  virtual const Tokenizer& tokenizer() const = 0;
  virtual const ChatTemplate* chat_template() const = 0;
};

}  // namespace trireme
