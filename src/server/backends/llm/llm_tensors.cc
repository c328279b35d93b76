// SPDX-License-Identifier: Apache-2.0
#include "server/backends/llm/llm_tensors.h"

#include <cstring>

#include "base/status.h"

namespace trireme::server {
namespace {

// What the tensors fill besides the request.
struct Draft {
  GenerateRequest request;
  std::vector<std::string> bias_words;
  std::vector<float> bias_weights;
};

using Fill = Status (*)(Draft& draft, const Tensor& tensor);

struct Input {
  const char* name;
  DataType type;
  int64_t dim;  // 1, or -1 for a list
  Fill fill;
};

// The first element of a tensor; text models have batches of one request.
template <typename T>
Status Read(const Tensor& tensor, T& to) {
  if (tensor.data.size() < sizeof(T)) return InvalidArgument("'{}' is empty", tensor.name);
  std::memcpy(&to, tensor.data.data(), sizeof(T));
  return OkStatus();
}

Status Read(const Tensor& tensor, bool& to) {
  if (tensor.data.empty()) return InvalidArgument("'{}' is empty", tensor.name);
  to = tensor.data.front() != 0;
  return OkStatus();
}

Status Read(const Tensor& tensor, std::vector<std::string>& to) {
  TRIREME_ASSIGN_OR_RETURN(const auto elements, BytesElements(tensor.data));
  to.assign(elements.begin(), elements.end());
  return OkStatus();
}

Status Read(const Tensor& tensor, std::vector<float>& to) {
  to.resize(tensor.data.size() / sizeof(float));
  if (!to.empty()) std::memcpy(to.data(), tensor.data.data(), to.size() * sizeof(float));
  return OkStatus();
}

template <typename T>
Status Check(const Tensor& tensor) {
  T ignored;
  return Read(tensor, ignored);
}

Status FillText(Draft& draft, const Tensor& tensor) {
  std::vector<std::string> texts;
  TRIREME_RETURN_IF_ERROR(Read(tensor, texts));
  if (texts.size() != 1) return InvalidArgument("'{}' must be one text", tensor.name);
  draft.request.prompt = std::move(texts.front());
  return OkStatus();
}

Status FillMaxTokens(Draft& draft, const Tensor& tensor) {
  int32_t value = 0;
  TRIREME_RETURN_IF_ERROR(Read(tensor, value));
  if (value <= 0) return InvalidArgument("max_tokens must be a single value > 0");
  draft.request.max_tokens = value;
  return OkStatus();
}

Status FillEndId(Draft& draft, const Tensor& tensor) {
  int32_t id = 0;
  TRIREME_RETURN_IF_ERROR(Read(tensor, id));
  draft.request.end_ids = id < 0 ? std::vector<TokenId>() : std::vector<TokenId>{id};
  return OkStatus();
}

#define TRIREME_LLM_FIELD(path) \
  [](Draft& draft, const Tensor& tensor) { return Read(tensor, draft.path); }
// The same for a sampling value that the model's publisher may have chosen too.
#define TRIREME_LLM_CHOICE(name)                      \
  [](Draft& draft, const Tensor& tensor) {            \
    draft.request.sampling_given.name = true;         \
    return Read(tensor, draft.request.sampling.name); \
  }

constexpr Input kInputs[] = {
    {"text_input", DataType::kBytes, 1, FillText},
    {"max_tokens", DataType::kInt32, 1, FillMaxTokens},
    {"bad_words", DataType::kBytes, -1, TRIREME_LLM_FIELD(request.bad_words)},
    {"stop_words", DataType::kBytes, -1, TRIREME_LLM_FIELD(request.stop)},
    {"exclude_input_in_output", DataType::kBool, 1,
     TRIREME_LLM_FIELD(request.output.exclude_input_from_output)},
    {"end_id", DataType::kInt32, 1, FillEndId},
    // Sequences are never padded.
    {"pad_id", DataType::kInt32, 1,
     [](Draft&, const Tensor& tensor) { return Check<int32_t>(tensor); }},
    {"top_k", DataType::kInt32, 1, TRIREME_LLM_CHOICE(top_k)},
    {"top_p", DataType::kFp32, 1, TRIREME_LLM_CHOICE(top_p)},
    {"min_p", DataType::kFp32, 1, TRIREME_LLM_FIELD(request.sampling.min_p)},
    {"top_p_min", DataType::kFp32, 1, TRIREME_LLM_FIELD(request.sampling.top_p_min)},
    {"top_p_decay", DataType::kFp32, 1, TRIREME_LLM_FIELD(request.sampling.top_p_decay)},
    {"top_p_reset_ids", DataType::kInt32, 1, TRIREME_LLM_FIELD(request.sampling.top_p_reset_id)},
    {"temperature", DataType::kFp32, 1, TRIREME_LLM_CHOICE(temperature)},
    // Only beams are ranked and stopped by these two.
    {"length_penalty", DataType::kFp32, 1,
     [](Draft&, const Tensor& tensor) { return Check<float>(tensor); }},
    {"early_stopping", DataType::kBool, 1,
     [](Draft&, const Tensor& tensor) { return Check<bool>(tensor); }},
    {"repetition_penalty", DataType::kFp32, 1, TRIREME_LLM_CHOICE(repetition_penalty)},
    {"presence_penalty", DataType::kFp32, 1, TRIREME_LLM_FIELD(request.sampling.presence_penalty)},
    {"frequency_penalty", DataType::kFp32, 1,
     TRIREME_LLM_FIELD(request.sampling.frequency_penalty)},
    {"no_repeat_ngram_size", DataType::kInt32, 1,
     TRIREME_LLM_FIELD(request.sampling.no_repeat_ngram_size)},
    {"min_tokens", DataType::kInt32, 1, TRIREME_LLM_FIELD(request.sampling.min_tokens)},
    {"min_length", DataType::kInt32, 1, TRIREME_LLM_FIELD(request.sampling.min_tokens)},
    {"seed", DataType::kUint64, 1, TRIREME_LLM_FIELD(request.sampling.seed)},
    {"random_seed", DataType::kUint64, 1, TRIREME_LLM_FIELD(request.sampling.seed)},
    {"beam_width", DataType::kInt32, 1, TRIREME_LLM_FIELD(request.sampling.beam_width)},
    {"num_return_sequences", DataType::kInt32, 1,
     TRIREME_LLM_FIELD(request.sampling.num_return_sequences)},
    {"return_log_probs", DataType::kBool, 1, TRIREME_LLM_FIELD(request.output.return_log_probs)},
    {"return_context_logits", DataType::kBool, 1,
     TRIREME_LLM_FIELD(request.output.return_context_logits)},
    {"return_generation_logits", DataType::kBool, 1,
     TRIREME_LLM_FIELD(request.output.return_generation_logits)},
    {"stream", DataType::kBool, 1, TRIREME_LLM_FIELD(request.streaming)},
    {"embedding_bias_words", DataType::kBytes, -1, TRIREME_LLM_FIELD(bias_words)},
    {"embedding_bias_weights", DataType::kFp32, -1, TRIREME_LLM_FIELD(bias_weights)},
};
#undef TRIREME_LLM_FIELD
#undef TRIREME_LLM_CHOICE

constexpr std::string_view kUnavailable[] = {"decoder_text_input",
                                             "prompt_embedding_table",
                                             "prompt_table_extra_id",
                                             "prompt_vocab_size",
                                             "lora_task_id",
                                             "lora_weights",
                                             "lora_config",
                                             "guided_decoding_guide_type",
                                             "guided_decoding_guide",
                                             "image_input",
                                             "image_bytes_input",
                                             "image_url_input",
                                             "video_bytes_input",
                                             "num_draft_tokens",
                                             "use_draft_logits",
                                             "draft_input_ids",
                                             "beam_search_diversity_rate"};

void AddFloats(InferResponse& response, const char* name, Dims shape,
               const std::vector<float>& values) {
  response.outputs.push_back(
      MakeTensorOf<float>(name, DataType::kFp32, std::move(shape), std::span(values)));
}

}  // namespace

std::vector<TensorConfig> LlmInputs() {
  std::vector<TensorConfig> inputs;
  for (const Input& input : kInputs) {
    inputs.push_back({.name = input.name, .type = input.type, .dims = {input.dim}});
    inputs.back().optional = inputs.size() > 2;  // but for text_input and max_tokens
  }
  return inputs;
}

std::vector<TensorConfig> LlmOutputs() {
  return {{.name = "text_output", .type = DataType::kBytes, .dims = {-1}},
          {.name = "cum_log_probs", .type = DataType::kFp32, .dims = {-1}},
          {.name = "output_log_probs", .type = DataType::kFp32, .dims = {-1, -1}},
          {.name = "context_logits", .type = DataType::kFp32, .dims = {-1, -1}},
          {.name = "generation_logits", .type = DataType::kFp32, .dims = {-1, -1, -1}},
          {.name = "sequence_index", .type = DataType::kInt32, .dims = {1}}};
}

StatusOr<GenerateRequest> ToGenerateRequest(const InferRequest& from) {
  for (const std::string_view name : kUnavailable) {
    if (from.parameters.count(std::string(name)) > 0) {
      return Unimplemented("'{}' belongs to a feature that does not exist yet", name);
    }
  }
  Draft draft;
  GenerateRequest& request = draft.request;
  // The ensemble's default: the text begins with the prompt.
  request.output.exclude_input_from_output = false;
  for (const Input& input : kInputs) {
    const Tensor* tensor = from.FindInput(input.name);
    if (tensor != nullptr) TRIREME_RETURN_IF_ERROR(input.fill(draft, *tensor));
  }
  if (draft.bias_words.size() != draft.bias_weights.size()) {
    return InvalidArgument("embedding_bias_words has {} entries, embedding_bias_weights {}",
                           draft.bias_words.size(), draft.bias_weights.size());
  }
  for (size_t i = 0; i < draft.bias_words.size(); ++i) {
    request.embedding_bias_words.emplace_back(draft.bias_words[i], draft.bias_weights[i]);
  }
  if (from.single_response) request.streaming = false;
  // Each event of a stream holds new text only.
  if (request.streaming) request.output.exclude_input_from_output = true;
  request.timeout_ms = static_cast<int64_t>(from.timeout_us / 1000);
  return std::move(request);
}

InferResponse ToInferResponse(std::span<const GenerateOutput> outputs,
                              const GenerateRequest& request) {
  InferResponse response;
  const auto count = static_cast<int64_t>(outputs.size());
  std::string texts;
  for (const GenerateOutput& output : outputs) AppendBytesElement(texts, output.text);
  response.outputs.push_back(
      MakeTensor("text_output", DataType::kBytes, {1, count}, std::move(texts)));
  const GenerateOutput& first = outputs.front();
  if (request.output.return_log_probs) {
    AddFloats(response, "cum_log_probs", {1, 1}, {first.cum_log_prob});
    AddFloats(response, "output_log_probs", {1, 1, std::ssize(first.log_probs)}, first.log_probs);
  }
  if (request.output.return_context_logits) {
    AddFloats(response, "context_logits", {1, 1, std::ssize(first.context_logits)},
              first.context_logits);
  }
  if (request.output.return_generation_logits) {
    AddFloats(response, "generation_logits", {1, 1, 1, std::ssize(first.generation_logits)},
              first.generation_logits);
  }
  if (request.sampling.num_return_sequences > 1 && count == 1) {
    const int32_t index = first.sequence_index;
    response.outputs.push_back(
        MakeTensorOf<int32_t>("sequence_index", DataType::kInt32, {1, 1}, std::span(&index, 1)));
  }
  response.parameters = {
      {"sequence_id", int64_t{0}}, {"sequence_start", false}, {"sequence_end", false}};
  response.is_final = outputs.back().is_final;
  return response;
}

}  // namespace trireme::server
