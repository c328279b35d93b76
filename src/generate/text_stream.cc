// SPDX-License-Identifier: Apache-2.0
#include "generate/text_stream.h"

#include <algorithm>
#include <optional>
#include <utility>

namespace trireme::generate {
namespace {

template <typename T>
void AppendTo(std::vector<T>& to, std::span<const T> from) {
  to.insert(to.end(), from.begin(), from.end());
}

}  // namespace

TextStream::TextStream(const Tokenizer& tokenizer, const TextStreamOptions& options)
    : options_(options), num_unfinished_(options.num_sequences) {
  for (int i = 0; i < options.num_sequences; ++i) {
    sequences_.push_back({.decoder = tokenizer.NewDecodeStream(options.skip_special_tokens),
                          .stops = StopMatcher(options.stop)});
    AppendPrompt(sequences_.back());
  }
}

// Past the stop strings, which are sought in what is generated.
void TextStream::AppendPrompt(Sequence& sequence) {
  for (TokenId token : options_.echoed_prompt) {
    sequence.decoder->Append(token, sequence.joined.text);
  }
}

std::optional<GenerateOutput> TextStream::Take(Response&& response) {
  Sequence& sequence = sequences_.at(response.sequence_index);
  if (sequence.is_final) return std::nullopt;
  AppendTokens(response, sequence);
  const bool stopped = sequence.stop >= 0;
  sequence.is_final = stopped || response.is_sequence_final;
  if (!sequence.is_final && !options_.streaming) return std::nullopt;
  if (sequence.is_final) {
    --num_unfinished_;
    if (!stopped) FinishText(sequence);
  }

  GenerateOutput output = std::exchange(sequence.joined, {});
  output.request_id = response.request_id;
  output.sequence_index = response.sequence_index;
  output.error = response.error;
  output.is_sequence_final = sequence.is_final;
  output.is_final = num_unfinished_ == 0;
  output.finish_reason = sequence.stop >= 0 ? FinishReason::kStopWords : response.finish_reason;
  if (sequence.stop >= 0) output.stop_string = options_.stop[sequence.stop];
  output.cum_log_prob = response.cum_log_prob;
  output.num_prompt_tokens = response.num_prompt_tokens;
  output.num_cached_tokens = response.num_cached_tokens;
  output.num_output_tokens = sequence.num_output_tokens;
  output.times = response.times;
  return output;
}

void TextStream::AppendTokens(Response& response, Sequence& sequence) {
  size_t num_taken = 0;
  while (num_taken < response.tokens.size() && sequence.stop < 0) {
    std::string text;
    sequence.decoder->Append(response.tokens[num_taken++], text);
    AppendText(text, sequence);
  }
  const size_t num_tokens = response.tokens.size();
  sequence.num_output_tokens += static_cast<int>(num_taken);
  AppendTo<TokenId>(sequence.joined.tokens, std::span(response.tokens).first(num_taken));
  AppendTo<float>(sequence.joined.context_logits, response.context_logits);
  // What belongs to surplus tokens goes with them.
  for (size_t i = num_taken; i < response.log_probs.size(); ++i) {
    response.cum_log_prob -= response.log_probs[i];
  }
  AppendTo<float>(
      sequence.joined.log_probs,
      std::span(response.log_probs).first(std::min(num_taken, response.log_probs.size())));
  if (num_tokens == 0) return;
  const size_t row = response.generation_logits.size() / num_tokens;
  AppendTo<float>(sequence.joined.generation_logits,
                  std::span(response.generation_logits).first(row * num_taken));
}

void TextStream::AppendText(const std::string& text, Sequence& sequence) {
  std::string& out = sequence.joined.text;
  if (sequence.stops.empty()) {
    out += text;
    return;
  }
  sequence.stop = sequence.stops.Append(text, out);
  if (sequence.stop >= 0 && options_.include_stop_in_output) out += options_.stop[sequence.stop];
}

void TextStream::FinishText(Sequence& sequence) {
  std::string text;
  sequence.decoder->Finish(text);
  AppendText(text, sequence);
  if (sequence.stop < 0 && !sequence.stops.empty()) sequence.stops.Finish(sequence.joined.text);
}

}  // namespace trireme::generate
