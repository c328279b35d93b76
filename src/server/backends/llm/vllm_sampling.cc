// SPDX-License-Identifier: Apache-2.0
#include "server/backends/llm/vllm_sampling.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "base/status.h"
#include "server/core/json_text.h"

namespace trireme::server {
namespace {

using Apply = Status (*)(GenerateRequest& request, const Json& value);
struct Row {
  std::string_view key;
  Apply apply;
};

// Numbers may come as texts: the backend's own examples write {"temperature": "0"}.
template <typename T>
Status Number(const Json& value, T& to) {
  if constexpr (std::is_floating_point_v<T>) {
    if (value.is_number()) return to = value.get<T>(), OkStatus();
  } else if (value.is_number_unsigned()) {
    const auto number = value.get<uint64_t>();
    if (std::in_range<T>(number)) return to = static_cast<T>(number), OkStatus();
  } else if (value.is_number_integer()) {
    const auto number = value.get<int64_t>();
    if (std::in_range<T>(number)) return to = static_cast<T>(number), OkStatus();
  }
  if (value.is_string()) {
    const auto& text = value.get_ref<const std::string&>();
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), to);
    if (error == std::errc() && end == text.data() + text.size()) return OkStatus();
  }
  return InvalidArgument("must be a {} in range, not {}",
                         std::is_integral_v<T> ? "whole number" : "number", value.dump());
}

Status Bool(const Json& value, bool& to) {
  if (value.is_boolean()) {
    to = value.get<bool>();
    return OkStatus();
  }
  const std::string text = value.is_string() ? value.get<std::string>() : "";
  if (text != "true" && text != "True" && text != "false" && text != "False") {
    return InvalidArgument("must be true or false, not {}", value.dump());
  }
  to = text == "true" || text == "True";
  return OkStatus();
}

// One text or a list of them.
Status Texts(const Json& value, std::vector<std::string>& to) {
  const Json list = value.is_array() ? value : Json::array({value});
  for (const Json& one : list) {
    if (!one.is_string()) return InvalidArgument("must be texts, not {}", value.dump());
    to.push_back(one.get<std::string>());
  }
  return OkStatus();
}

Status ApplyTemperature(GenerateRequest& request, const Json& value) {
  request.sampling_given.temperature = true;
  TRIREME_RETURN_IF_ERROR(Number(value, request.sampling.temperature));
  if (request.sampling.temperature != 0) return OkStatus();
  // Greedy.
  request.sampling.temperature = 1;
  request.sampling.top_k = 1;
  request.sampling_given.top_k = true;
  return OkStatus();
}

Status ApplyTopK(GenerateRequest& request, const Json& value) {
  int top_k = 0;
  TRIREME_RETURN_IF_ERROR(Number(value, top_k));
  // -1: no limit. Temperature 0 has already chosen the best.
  if (request.sampling.top_k != 1) request.sampling.top_k = std::max(0, top_k);
  request.sampling_given.top_k = true;
  return OkStatus();
}

Status ApplyStopIds(GenerateRequest& request, const Json& value) {
  if (!value.is_array()) return InvalidArgument("must be a list of ids, not {}", value.dump());
  for (const Json& id : value) {
    TRIREME_RETURN_IF_ERROR(Number(id, request.stop_word_ids.emplace_back(1).front()));
  }
  return OkStatus();
}

Status ApplyLogitBias(GenerateRequest& request, const Json& value) {
  if (!value.is_object()) return InvalidArgument("must be an object, not {}", value.dump());
  for (const auto& [key, bias] : value.items()) {
    TokenId id = 0;
    TRIREME_RETURN_IF_ERROR(Number(Json(key), id));
    TRIREME_RETURN_IF_ERROR(Number(bias, request.logit_bias[id]));
  }
  return OkStatus();
}

Status ApplyIgnoreEos(GenerateRequest& request, const Json& value) {
  bool ignore = false;
  TRIREME_RETURN_IF_ERROR(Bool(value, ignore));
  if (ignore) request.end_ids.emplace();
  return OkStatus();
}

#define TRIREME_VLLM_NUMBER(path) \
  [](GenerateRequest& request, const Json& value) { return Number(value, request.path); }
#define TRIREME_VLLM_BOOL(path) \
  [](GenerateRequest& request, const Json& value) { return Bool(value, request.path); }

// In the order they are applied.
constexpr Row kRows[] = {
    {"n", TRIREME_VLLM_NUMBER(sampling.num_return_sequences)},
    {"temperature", ApplyTemperature},
    {"top_k", ApplyTopK},
    {"top_p",
     [](GenerateRequest& request, const Json& value) {
       request.sampling_given.top_p = true;
       return Number(value, request.sampling.top_p);
     }},
    {"min_p", TRIREME_VLLM_NUMBER(sampling.min_p)},
    {"seed", TRIREME_VLLM_NUMBER(sampling.seed)},
    {"max_tokens", TRIREME_VLLM_NUMBER(max_tokens)},
    {"min_tokens", TRIREME_VLLM_NUMBER(sampling.min_tokens)},
    {"presence_penalty", TRIREME_VLLM_NUMBER(sampling.presence_penalty)},
    {"frequency_penalty", TRIREME_VLLM_NUMBER(sampling.frequency_penalty)},
    {"repetition_penalty",
     [](GenerateRequest& request, const Json& value) {
       request.sampling_given.repetition_penalty = true;
       return Number(value, request.sampling.repetition_penalty);
     }},
    {"stop",
     [](GenerateRequest& request, const Json& value) { return Texts(value, request.stop); }},
    {"stop_token_ids", ApplyStopIds},
    {"bad_words",
     [](GenerateRequest& request, const Json& value) { return Texts(value, request.bad_words); }},
    {"logit_bias", ApplyLogitBias},
    {"ignore_eos", ApplyIgnoreEos},
    {"skip_special_tokens", TRIREME_VLLM_BOOL(skip_special_tokens)},
    {"include_stop_str_in_output", TRIREME_VLLM_BOOL(include_stop_in_output)},
};
#undef TRIREME_VLLM_NUMBER
#undef TRIREME_VLLM_BOOL

StatusOr<Json> ToJson(const std::string& json, const Parameters& parameters) {
  if (!json.empty()) {
    StatusOr<Json> parsed = ParseJsonObject(json);
    return parsed.ok() ? parsed : parsed.status().WithContext("sampling_parameters");
  }
  Json object = Json::object();
  for (const auto& [key, value] : parameters) {
    std::visit([&, &name = key](const auto& one) { object[name] = one; }, value);
  }
  return object;
}

}  // namespace

Status ReadVllmSampling(const std::string& json, const Parameters& parameters,
                        GenerateRequest& request) {
  TRIREME_ASSIGN_OR_RETURN(const Json object, ToJson(json, parameters));
  for (const auto& [key, value] : object.items()) {
    if (value.is_null()) continue;
    if (std::ranges::find(kRows, std::string_view(key), &Row::key) == std::end(kRows)) {
      return Unimplemented("sampling parameter '{}' does not exist yet; leave it out", key);
    }
  }
  // Its own defaults: 16 tokens, drawn from the whole distribution.
  request.max_tokens = 16;
  request.sampling.top_p = 1;
  for (const Row& row : kRows) {
    const auto found = object.find(row.key);
    if (found == object.end() || found->is_null()) continue;
    const Status applied = row.apply(request, *found);
    if (!applied.ok()) {
      return applied.WithContext(fmt::format("sampling parameter '{}'", row.key));
    }
  }
  return OkStatus();
}

}  // namespace trireme::server
