// SPDX-License-Identifier: Apache-2.0
#include "server/backends/llm/llm_fields.h"

#include "base/status.h"
#include "server/backends/llm/read_tensor.h"

namespace trireme::server {
namespace {

Status FillPrompt(LlmDraft& draft, const Tensor& tensor) {
  std::string text;
  TRIREME_RETURN_IF_ERROR(ReadText(tensor, text));
  draft.request.generate.prompt = std::move(text);
  return OkStatus();
}

Status FillMaxTokens(LlmDraft& draft, const Tensor& tensor) {
  int32_t value = 0;
  TRIREME_RETURN_IF_ERROR(ReadTensor(tensor, value));
  if (value <= 0) return InvalidArgument("{} must be a single value > 0", tensor.name);
  draft.request.generate.max_tokens = value;
  return OkStatus();
}

Status FillEndId(LlmDraft& draft, const Tensor& tensor) {
  int32_t id = 0;
  TRIREME_RETURN_IF_ERROR(ReadTensor(tensor, id));
  draft.request.generate.end_ids = id < 0 ? std::vector<TokenId>() : std::vector<TokenId>{id};
  return OkStatus();
}

// [2, n]: the ids of all words in a row, and under them where each word ends, -1 behind the last.
Status ReadWordList(const Tensor& tensor, std::vector<std::vector<TokenId>>& words) {
  const std::vector<int32_t> values = ValuesOf<int32_t>(tensor);
  if (tensor.shape.size() != 2 || tensor.shape[0] != 2) {
    return InvalidArgument("'{}' must have shape [2,n]: token ids and ends of words, not {}",
                           tensor.name, ShapeText(tensor.shape));
  }
  const size_t n = values.size() / 2;
  int32_t begin = 0;
  for (size_t i = n; i < 2 * n && values[i] >= 0; ++i) {
    const int32_t end = values[i];
    if (end < begin || std::cmp_greater(end, n)) {
      return InvalidArgument("'{}': word {} ends at {}, but begins at {} of {} ids", tensor.name,
                             i - n, end, begin, n);
    }
    if (end > begin) words.emplace_back(values.begin() + begin, values.begin() + end);
    begin = end;
  }
  return OkStatus();
}

// Statistics that the executor does not keep for each request.
Status OnlyFalse(LlmDraft&, const Tensor& tensor) {
  bool value = false;
  TRIREME_RETURN_IF_ERROR(ReadTensor(tensor, value));
  if (!value) return OkStatus();
  return Unimplemented("'{}' belongs to a feature that does not exist yet; leave it out",
                       tensor.name);
}

template <typename T>
Status OnlyChecked(LlmDraft&, const Tensor& tensor) {
  return CheckTensor<T>(tensor);
}

#define TRIREME_LLM_FIELD(path) \
  [](LlmDraft& draft, const Tensor& tensor) { return ReadTensor(tensor, draft.path); }
// The same for a sampling value that the model's publisher may have chosen too.
#define TRIREME_LLM_CHOICE(name)                                     \
  [](LlmDraft& draft, const Tensor& tensor) {                        \
    draft.request.generate.sampling_given.name = true;               \
    return ReadTensor(tensor, draft.request.generate.sampling.name); \
  }

using enum DataType;
using enum LlmField::Shape;

constexpr LlmField kFields[] = {
    {"text_input", nullptr, kBytes, kOne, FillPrompt, true},
    {nullptr, "input_ids", kInt32, kList, TRIREME_LLM_FIELD(request.generate.prompt_ids), true},
    {nullptr, "input_lengths", kInt32, kOne, TRIREME_LLM_FIELD(input_length), true},
    {"max_tokens", "request_output_len", kInt32, kOne, FillMaxTokens, true},
    {"bad_words", nullptr, kBytes, kList, TRIREME_LLM_FIELD(request.generate.bad_words)},
    {"stop_words", nullptr, kBytes, kList, TRIREME_LLM_FIELD(request.generate.stop)},
    {nullptr, "bad_words_list", kInt32, kPairs,
     [](LlmDraft& draft, const Tensor& tensor) {
       return ReadWordList(tensor, draft.request.generate.bad_word_ids);
     }},
    {nullptr, "stop_words_list", kInt32, kPairs,
     [](LlmDraft& draft, const Tensor& tensor) {
       return ReadWordList(tensor, draft.request.generate.stop_word_ids);
     }},
    {"exclude_input_in_output", "exclude_input_in_output", kBool, kOne,
     TRIREME_LLM_FIELD(request.generate.output.exclude_input_from_output)},
    {"end_id", "end_id", kInt32, kOne, FillEndId},
    // Sequences are never padded.
    {"pad_id", "pad_id", kInt32, kOne, OnlyChecked<int32_t>},
    {"top_k", "runtime_top_k", kInt32, kOne, TRIREME_LLM_CHOICE(top_k)},
    {"top_p", "runtime_top_p", kFp32, kOne, TRIREME_LLM_CHOICE(top_p)},
    {"min_p", "min_p", kFp32, kOne, TRIREME_LLM_FIELD(request.generate.sampling.min_p)},
    {"top_p_min", "runtime_top_p_min", kFp32, kOne,
     TRIREME_LLM_FIELD(request.generate.sampling.top_p_min)},
    {"top_p_decay", "runtime_top_p_decay", kFp32, kOne,
     TRIREME_LLM_FIELD(request.generate.sampling.top_p_decay)},
    {"top_p_reset_ids", "runtime_top_p_reset_ids", kInt32, kOne,
     TRIREME_LLM_FIELD(request.generate.sampling.top_p_reset_id)},
    {"temperature", "temperature", kFp32, kOne, TRIREME_LLM_CHOICE(temperature)},
    // Only beams are ranked and stopped by these two.
    {"length_penalty", "len_penalty", kFp32, kOne, OnlyChecked<float>},
    {"early_stopping", "early_stopping", kBool, kOne, OnlyChecked<bool>},
    {"repetition_penalty", "repetition_penalty", kFp32, kOne,
     TRIREME_LLM_CHOICE(repetition_penalty)},
    {"presence_penalty", "presence_penalty", kFp32, kOne,
     TRIREME_LLM_FIELD(request.generate.sampling.presence_penalty)},
    {"frequency_penalty", "frequency_penalty", kFp32, kOne,
     TRIREME_LLM_FIELD(request.generate.sampling.frequency_penalty)},
    {"no_repeat_ngram_size", "no_repeat_ngram_size", kInt32, kOne,
     TRIREME_LLM_FIELD(request.generate.sampling.no_repeat_ngram_size)},
    {"min_tokens", "min_tokens", kInt32, kOne,
     TRIREME_LLM_FIELD(request.generate.sampling.min_tokens)},
    {"min_length", "min_length", kInt32, kOne,
     TRIREME_LLM_FIELD(request.generate.sampling.min_tokens)},
    {"seed", "seed", kUint64, kOne, TRIREME_LLM_FIELD(request.generate.sampling.seed)},
    {"random_seed", "random_seed", kUint64, kOne,
     TRIREME_LLM_FIELD(request.generate.sampling.seed)},
    {"beam_width", "beam_width", kInt32, kOne,
     TRIREME_LLM_FIELD(request.generate.sampling.beam_width)},
    {"num_return_sequences", "num_return_sequences", kInt32, kOne,
     TRIREME_LLM_FIELD(request.generate.sampling.num_return_sequences)},
    {"return_log_probs", "return_log_probs", kBool, kOne,
     TRIREME_LLM_FIELD(request.generate.output.return_log_probs)},
    {"return_context_logits", "return_context_logits", kBool, kOne,
     TRIREME_LLM_FIELD(request.generate.output.return_context_logits)},
    {"return_generation_logits", "return_generation_logits", kBool, kOne,
     TRIREME_LLM_FIELD(request.generate.output.return_generation_logits)},
    {"return_num_input_tokens", "return_num_input_tokens", kBool, kOne,
     TRIREME_LLM_FIELD(request.return_num_input_tokens)},
    {"return_num_output_tokens", "return_num_output_tokens", kBool, kOne,
     TRIREME_LLM_FIELD(request.return_num_output_tokens)},
    {"return_perf_metrics", "return_perf_metrics", kBool, kOne, OnlyFalse},
    {"return_kv_cache_reuse_stats", "return_kv_cache_reuse_stats", kBool, kOne, OnlyFalse},
    {"stream", "streaming", kBool, kOne, TRIREME_LLM_FIELD(request.generate.streaming)},
    {"embedding_bias_words", nullptr, kBytes, kList, TRIREME_LLM_FIELD(bias_words)},
    {"embedding_bias_weights", nullptr, kFp32, kList, TRIREME_LLM_FIELD(bias_weights)},
    {nullptr, "embedding_bias", kFp32, kList, TRIREME_LLM_FIELD(request.generate.embedding_bias)},
    // Models that only decode have no use for these; preprocessing sends them with every request.
    {nullptr, "decoder_input_ids", kInt32, kList, OnlyChecked<std::vector<int32_t>>},
    {nullptr, "decoder_input_lengths", kInt32, kOne, OnlyChecked<int32_t>},
    // Handled where requests are known by their ids.
    {nullptr, "stop", kBool, kOne, OnlyChecked<bool>},

    {"decoder_text_input", nullptr, kBytes, kOne, nullptr},
    {"prompt_embedding_table", "prompt_embedding_table", kFp16, kTable, nullptr},
    {"prompt_table_extra_id", nullptr, kUint64, kOne, nullptr},
    {nullptr, "prompt_table_extra_ids", kUint64, kList, nullptr},
    {"prompt_vocab_size", "prompt_vocab_size", kInt32, kOne, nullptr},
    {"lora_task_id", "lora_task_id", kUint64, kOne, nullptr},
    {"lora_weights", "lora_weights", kFp16, kTable, nullptr},
    {"lora_config", "lora_config", kInt32, kTable, nullptr},
    {"guided_decoding_guide_type", "guided_decoding_guide_type", kBytes, kOne, nullptr},
    {"guided_decoding_guide", "guided_decoding_guide", kBytes, kOne, nullptr},
    {"image_input", nullptr, kFp16, kList, nullptr},
    {"image_bytes_input", nullptr, kUint8, kList, nullptr},
    {"image_url_input", nullptr, kBytes, kOne, nullptr},
    {"video_bytes_input", nullptr, kUint8, kList, nullptr},
    {"num_draft_tokens", nullptr, kInt32, kOne, nullptr},
    {"use_draft_logits", nullptr, kBool, kOne, nullptr},
    {"draft_input_ids", "draft_input_ids", kInt32, kList, nullptr},
    {nullptr, "draft_logits", kFp16, kTable, nullptr},
    {nullptr, "draft_acceptance_threshold", kFp32, kOne, nullptr},
    {"beam_search_diversity_rate", "beam_search_diversity_rate", kFp32, kOne, nullptr},
    {nullptr, "encoder_input_features", kFp16, kTable, nullptr},
    {nullptr, "encoder_output_lengths", kInt32, kOne, nullptr},
    {nullptr, "cross_attention_mask", kBool, kTable, nullptr},
    {nullptr, "skip_cross_attn_blocks", kBool, kOne, nullptr},
    {nullptr, "mrope_rotary_cos_sin", kFp32, kList, nullptr},
    {nullptr, "mrope_position_deltas", kInt64, kOne, nullptr},
    {nullptr, "context_phase_params", kUint8, kList, nullptr},
    {nullptr, "retention_token_range_starts", kInt32, kList, nullptr},
    {nullptr, "retention_token_range_ends", kInt32, kList, nullptr},
    {nullptr, "retention_token_range_priorities", kInt32, kList, nullptr},
    {nullptr, "retention_token_range_durations_ms", kInt32, kList, nullptr},
    {nullptr, "retention_decode_priority", kInt32, kOne, nullptr},
    {nullptr, "retention_decode_duration_ms", kInt32, kOne, nullptr},
    {nullptr, "lookahead_window_size", kInt32, kOne, nullptr},
    {nullptr, "lookahead_ngram_size", kInt32, kOne, nullptr},
    {nullptr, "lookahead_verification_set_size", kInt32, kOne, nullptr},
};
#undef TRIREME_LLM_FIELD
#undef TRIREME_LLM_CHOICE

Status FinishPromptIds(const LlmDraft& draft, GenerateRequest& request) {
  const int32_t length = draft.input_length;
  if (length < 0) return OkStatus();
  if (std::cmp_greater(length, request.prompt_ids.size())) {
    return InvalidArgument("input_lengths is {}, but input_ids has {} ids", length,
                           request.prompt_ids.size());
  }
  request.prompt_ids.resize(static_cast<size_t>(length));
  return OkStatus();
}

}  // namespace

Dims LlmField::dims() const {
  switch (shape) {
    case kOne: return {1};
    case kList: return {-1};
    case kPairs: return {2, -1};
    case kTable: return {-1, -1};
  }
  return {-1};
}

std::span<const LlmField> LlmFields() { return kFields; }

StatusOr<LlmRequest> FillLlmRequest(const InputRow& row, const InferRequest& from, bool text_names,
                                    bool exclude_input_by_default) {
  LlmDraft draft;
  GenerateRequest& request = draft.request.generate;
  request.output.exclude_input_from_output = exclude_input_by_default;
  for (const LlmField& field : LlmFields()) {
    const char* name = text_names ? field.text_name : field.token_name;
    if (name == nullptr) continue;
    const Tensor* tensor = FindTensor(row, name);
    if (field.fill != nullptr) {
      if (tensor != nullptr) TRIREME_RETURN_IF_ERROR(field.fill(draft, *tensor));
    } else if ((tensor != nullptr && !tensor->data.empty()) || from.parameters.count(name) > 0) {
      return Unimplemented("'{}' belongs to a feature that does not exist yet", name);
    }
  }
  TRIREME_RETURN_IF_ERROR(FinishPromptIds(draft, request));
  if (draft.bias_words.size() != draft.bias_weights.size()) {
    return InvalidArgument("embedding_bias_words has {} entries, embedding_bias_weights {}",
                           draft.bias_words.size(), draft.bias_weights.size());
  }
  for (size_t i = 0; i < draft.bias_words.size(); ++i) {
    request.embedding_bias_words.emplace_back(draft.bias_words[i], draft.bias_weights[i]);
  }
  if (from.single_response) request.streaming = false;
  // Each response of a stream holds what is new only.
  if (request.streaming) request.output.exclude_input_from_output = true;
  request.timeout_ms = from.timeout_ms();
  return std::move(draft.request);
}

}  // namespace trireme::server
