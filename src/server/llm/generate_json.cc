// SPDX-License-Identifier: Apache-2.0
#include "server/llm/generate_json.h"

#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>

#include "base/status.h"

namespace trireme::server {
namespace {

using nlohmann::json;

// JSON text nested deeper than this is refused before it is parsed, so that the parser's recursion
// is bounded.
constexpr int kMaxDepth = 100;

Status CheckDepth(std::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') {
        ++i;
      } else if (c == '"') {
        in_string = false;
      }
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth > kMaxDepth) {
        return InvalidArgument("JSON nesting depth exceeds maximum allowed limit ({})", kMaxDepth);
      }
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return OkStatus();
}

// A scalar, or the one element of a list.
StatusOr<const json*> Scalar(const json& value, std::string_view key) {
  if (!value.is_array()) return &value;
  if (value.size() == 1 && !value[0].is_array()) return &value[0];
  return InvalidArgument("'{}' must be one value, not a list of {}", key, value.size());
}

Status Read(const json& value, std::string_view key, bool& to) {
  TRIREME_ASSIGN_OR_RETURN(const json* scalar, Scalar(value, key));
  if (!scalar->is_boolean()) return InvalidArgument("'{}' must be true or false", key);
  to = scalar->get<bool>();
  return OkStatus();
}

template <typename Integer>
requires std::is_integral_v<Integer> Status Read(const json& value, std::string_view key,
                                                 Integer& to) {
  TRIREME_ASSIGN_OR_RETURN(const json* scalar, Scalar(value, key));
  if (!scalar->is_number_integer()) return InvalidArgument("'{}' must be an integer", key);
  const bool fits = scalar->is_number_unsigned() ? std::in_range<Integer>(scalar->get<uint64_t>())
                                                 : std::in_range<Integer>(scalar->get<int64_t>());
  if (!fits) return InvalidArgument("'{}' is {}, which is out of range", key, scalar->dump());
  to = scalar->get<Integer>();
  return OkStatus();
}

Status Read(const json& value, std::string_view key, float& to) {
  TRIREME_ASSIGN_OR_RETURN(const json* scalar, Scalar(value, key));
  if (!scalar->is_number()) return InvalidArgument("'{}' must be a number", key);
  const double number = scalar->get<double>();
  if (!std::isfinite(number) || std::fabs(number) > std::numeric_limits<float>::max()) {
    return InvalidArgument("'{}' is {}, which is out of range", key, scalar->dump());
  }
  to = static_cast<float>(number);
  return OkStatus();
}

Status Read(const json& value, std::string_view key, std::string& to) {
  TRIREME_ASSIGN_OR_RETURN(const json* scalar, Scalar(value, key));
  if (!scalar->is_string()) return InvalidArgument("'{}' must be a string", key);
  to = scalar->get<std::string>();
  return OkStatus();
}

// A list of strings, or one string.
Status Read(const json& value, std::string_view key, std::vector<std::string>& to) {
  to.clear();
  if (value.is_string()) {
    to.push_back(value.get<std::string>());
    return OkStatus();
  }
  if (!value.is_array()) return InvalidArgument("'{}' must be a string or a list of strings", key);
  for (const json& element : value) {
    if (!element.is_string()) return InvalidArgument("'{}' must hold strings only", key);
    to.push_back(element.get<std::string>());
  }
  return OkStatus();
}

Status Read(const json& value, std::string_view key, std::vector<float>& to) {
  to.clear();
  if (value.is_number()) {
    to.push_back(value.get<float>());
    return OkStatus();
  }
  if (!value.is_array()) return InvalidArgument("'{}' must be a number or a list of numbers", key);
  for (const json& element : value) {
    if (!element.is_number()) return InvalidArgument("'{}' must hold numbers only", key);
    to.push_back(element.get<float>());
  }
  return OkStatus();
}

// What the fields fill besides the request.
struct Draft {
  GenerateCall call;
  std::string text_input;
  bool has_text = false;
  TokenId end_id = -1;
  bool has_end_id = false;
  std::vector<std::string> bias_words;
  std::vector<float> bias_weights;
};

using Reader = std::function<Status(Draft&, const json&, std::string_view key)>;

template <typename Select>
Reader Field(Select select) {
  return [select](Draft& draft, const json& value, std::string_view key) {
    return Read(value, key, select(draft));
  };
}

const std::map<std::string, Reader, std::less<>>& Readers() {
  static const auto* readers = new std::map<std::string, Reader, std::less<>>{
      {"text_input",
       [](Draft& d, const json& value, std::string_view key) {
         d.has_text = true;
         return Read(value, key, d.text_input);
       }},
      {"max_tokens",
       [](Draft& d, const json& value, std::string_view key) {
         TRIREME_RETURN_IF_ERROR(Read(value, key, d.call.request.max_tokens));
         if (d.call.request.max_tokens > 0) return OkStatus();
         return InvalidArgument("max_tokens must be a single value > 0");
       }},
      {"id", Field([](Draft& d) -> std::string& { return d.call.id; })},
      {"stream", Field([](Draft& d) -> bool& { return d.call.request.streaming; })},
      {"bad_words", Field([](Draft& d) -> auto& { return d.call.request.bad_words; })},
      {"stop_words", Field([](Draft& d) -> auto& { return d.call.request.stop; })},
      {"end_id",
       [](Draft& d, const json& value, std::string_view key) {
         d.has_end_id = true;
         return Read(value, key, d.end_id);
       }},
      {"pad_id",
       [](Draft&, const json& value, std::string_view key) {
         int ignored = 0;  // sequences are never padded; only the type is checked
         return Read(value, key, ignored);
       }},
      {"top_k", Field([](Draft& d) -> auto& { return d.call.request.sampling.top_k; })},
      {"top_p", Field([](Draft& d) -> auto& { return d.call.request.sampling.top_p; })},
      {"min_p", Field([](Draft& d) -> auto& { return d.call.request.sampling.min_p; })},
      {"top_p_min", Field([](Draft& d) -> auto& { return d.call.request.sampling.top_p_min; })},
      {"top_p_decay", Field([](Draft& d) -> auto& { return d.call.request.sampling.top_p_decay; })},
      {"top_p_reset_ids",
       Field([](Draft& d) -> auto& { return d.call.request.sampling.top_p_reset_id; })},
      {"temperature", Field([](Draft& d) -> auto& { return d.call.request.sampling.temperature; })},
      {"repetition_penalty",
       Field([](Draft& d) -> auto& { return d.call.request.sampling.repetition_penalty; })},
      {"presence_penalty",
       Field([](Draft& d) -> auto& { return d.call.request.sampling.presence_penalty; })},
      {"frequency_penalty",
       Field([](Draft& d) -> auto& { return d.call.request.sampling.frequency_penalty; })},
      {"no_repeat_ngram_size",
       Field([](Draft& d) -> auto& { return d.call.request.sampling.no_repeat_ngram_size; })},
      {"min_tokens", Field([](Draft& d) -> auto& { return d.call.request.sampling.min_tokens; })},
      {"min_length", Field([](Draft& d) -> auto& { return d.call.request.sampling.min_tokens; })},
      {"seed", Field([](Draft& d) -> auto& { return d.call.request.sampling.seed; })},
      {"random_seed", Field([](Draft& d) -> auto& { return d.call.request.sampling.seed; })},
      {"beam_width", Field([](Draft& d) -> auto& { return d.call.request.sampling.beam_width; })},
      {"num_return_sequences",
       Field([](Draft& d) -> auto& { return d.call.request.sampling.num_return_sequences; })},
      {"return_log_probs",
       Field([](Draft& d) -> auto& { return d.call.request.output.return_log_probs; })},
      {"return_context_logits",
       Field([](Draft& d) -> auto& { return d.call.request.output.return_context_logits; })},
      {"return_generation_logits",
       Field([](Draft& d) -> auto& { return d.call.request.output.return_generation_logits; })},
      {"exclude_input_in_output",
       Field([](Draft& d) -> auto& { return d.call.request.output.exclude_input_from_output; })},
      {"embedding_bias_words", Field([](Draft& d) -> auto& { return d.bias_words; })},
      {"embedding_bias_weights", Field([](Draft& d) -> auto& { return d.bias_weights; })},
      {"length_penalty",
       [](Draft&, const json& value, std::string_view key) {
         float ignored = 0;  // only beams are ranked by it
         return Read(value, key, ignored);
       }},
      {"early_stopping",
       [](Draft&, const json& value, std::string_view key) {
         bool ignored = false;  // only beams are stopped by it
         return Read(value, key, ignored);
       }},
  };
  return *readers;
}

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

Status ReadMember(Draft& draft, const std::string& key, const json& value) {
  const auto reader = Readers().find(key);
  if (reader != Readers().end()) return reader->second(draft, value, key);
  for (std::string_view name : kUnavailable) {
    if (key == name) return Unimplemented("'{}' belongs to a feature that does not exist yet", key);
  }
  if (value.is_object() || value.is_array()) {
    return InvalidArgument("parameter '{}' has invalid type", key);
  }
  return OkStatus();
}

Status ReadObject(Draft& draft, const json& object, bool top_level) {
  for (const auto& [key, value] : object.items()) {
    if (top_level && key == "parameters") {
      if (!value.is_object()) {
        return InvalidArgument("Expected JSON object for keyword: 'parameters'");
      }
      TRIREME_RETURN_IF_ERROR(ReadObject(draft, value, /*top_level=*/false));
    } else {
      TRIREME_RETURN_IF_ERROR(ReadMember(draft, key, value));
    }
  }
  return OkStatus();
}

Status FinishCall(Draft& draft) {
  GenerateRequest& request = draft.call.request;
  if (!draft.has_text) return InvalidArgument("text_input is required");
  if (request.max_tokens == 0) return InvalidArgument("max_tokens must be a single value > 0");
  request.prompt = std::move(draft.text_input);
  if (draft.has_end_id) {
    request.end_ids =
        draft.end_id < 0 ? std::vector<TokenId>() : std::vector<TokenId>{draft.end_id};
  }
  if (draft.bias_words.size() != draft.bias_weights.size()) {
    return InvalidArgument("embedding_bias_words has {} entries, embedding_bias_weights {}",
                           draft.bias_words.size(), draft.bias_weights.size());
  }
  for (size_t i = 0; i < draft.bias_words.size(); ++i) {
    request.embedding_bias_words.emplace_back(draft.bias_words[i], draft.bias_weights[i]);
  }
  return OkStatus();
}

// One element is a scalar in a reply.
json ScalarOrList(const std::vector<float>& values) {
  return values.size() == 1 ? json(values.front()) : json(values);
}

}  // namespace

StatusOr<GenerateCall> ParseGenerateCall(std::string_view body) {
  TRIREME_RETURN_IF_ERROR(CheckDepth(body));
  const json object = json::parse(body, nullptr, /*allow_exceptions=*/false);
  if (object.is_discarded()) {
    return InvalidArgument(
        "failed to parse the request JSON buffer: it is not valid JSON in UTF-8");
  }
  if (!object.is_object()) return InvalidArgument("the request must be a JSON object");
  Draft draft;
  // The ensemble's default: the text begins with the prompt.
  draft.call.request.output.exclude_input_from_output = false;
  TRIREME_RETURN_IF_ERROR(ReadObject(draft, object, /*top_level=*/true));
  TRIREME_RETURN_IF_ERROR(FinishCall(draft));
  return std::move(draft.call);
}

std::string GenerateReply(const GenerateOutput& output, const GenerateCall& call,
                          const std::string& model_name, const std::string& model_version) {
  json reply = {{"model_name", model_name}, {"model_version", model_version},
                {"sequence_end", false},    {"sequence_id", 0},
                {"sequence_start", false},  {"text_output", output.text}};
  if (!call.id.empty()) reply["id"] = call.id;
  const OutputConfig& wanted = call.request.output;
  if (wanted.return_log_probs) {
    reply["cum_log_probs"] = output.cum_log_prob;
    reply["output_log_probs"] = ScalarOrList(output.log_probs);
  }
  if (wanted.return_context_logits) reply["context_logits"] = ScalarOrList(output.context_logits);
  if (wanted.return_generation_logits) {
    reply["generation_logits"] = ScalarOrList(output.generation_logits);
  }
  if (call.request.sampling.num_return_sequences > 1) {
    reply["sequence_index"] = output.sequence_index;
  }
  return reply.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace trireme::server
