// SPDX-License-Identifier: Apache-2.0
#include "server/frontends/openai/openai_request.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <span>

#include "base/status.h"
#include "server/core/json_text.h"

namespace trireme::server {
namespace {

constexpr int kMaxTopLogProbs = 20;
constexpr int kMaxChoices = 128;
constexpr size_t kMaxPrompts = 1024;

// What the fields fill.
struct Draft {
  OpenAiRequest request;
  GenerateRequest base;  // but for the prompts
  std::vector<GenerateRequest> prompts;
  std::optional<int> best_of;
  std::optional<int> top_log_probs;
  bool has_stream_options = false;
  bool tools_allowed = true;
  Json template_variables = Json::object();
};

// One field as sent; never null.
struct Arg {
  std::string_view name;
  const Json& value;

  Status Wrong(std::string_view expected) const {
    std::string sent = value.dump(-1, ' ', false, Json::error_handler_t::replace);
    if (sent.size() > 60) sent = value.type_name();
    return InvalidArgument("'{}' must be {}, not {}", name, expected, sent);
  }
  Status Read(bool& to) const {
    if (!value.is_boolean()) return Wrong("true or false");
    to = value.get<bool>();
    return OkStatus();
  }
  Status Read(std::string& to) const {
    if (!value.is_string()) return Wrong("a string");
    to = value.get<std::string>();
    return OkStatus();
  }
  Status Number(float low, float high, float& to) const {
    const double number = value.is_number() ? value.get<double>() : low - 1.0;
    if (!(number >= low && number <= high)) {
      return Wrong(fmt::format("a number from {} to {}", low, high));
    }
    to = static_cast<float>(number);
    return OkStatus();
  }
  Status Integer(int64_t low, int64_t high, int64_t& to) const {
    const bool fits = value.is_number_integer() &&
                      !(value.is_number_unsigned() && value.get<uint64_t>() > INT64_MAX);
    if (!fits || value.get<int64_t>() < low || value.get<int64_t>() > high) {
      return Wrong(fmt::format("an integer from {} to {}", low, high));
    }
    to = value.get<int64_t>();
    return OkStatus();
  }
  Status Integer(int low, int high, int& to) const {
    int64_t wide = 0;
    TRIREME_RETURN_IF_ERROR(Integer(int64_t{low}, int64_t{high}, wide));
    to = static_cast<int>(wide);
    return OkStatus();
  }
  // The one value that asks for nothing which does not exist here.
  Status Only(const Json& allowed, std::string_view why) const {
    if (value == allowed) return OkStatus();
    return InvalidArgument("'{}' is not supported here but as {}: {}", name, allowed.dump(), why);
  }
};

Status FillStop(Draft& draft, const Arg& arg) {
  if (arg.value.is_string()) {
    draft.base.stop = {arg.value.get<std::string>()};
    return OkStatus();
  }
  if (!arg.value.is_array()) return arg.Wrong("a string or an array of strings");
  for (const Json& stop : arg.value) {
    if (!stop.is_string()) return arg.Wrong("a string or an array of strings");
    draft.base.stop.push_back(stop.get<std::string>());
  }
  return OkStatus();
}

Status FillLogitBias(Draft& draft, const Arg& arg) {
  constexpr std::string_view kForm = "an object of token ids and numbers from -100 to 100";
  if (!arg.value.is_object()) return arg.Wrong(kForm);
  for (const auto& [key, bias] : arg.value.items()) {
    TokenId token = 0;
    const char* key_end = key.data() + key.size();
    const auto [end, error] = std::from_chars(key.data(), key_end, token);
    if (error != std::errc() || end != key_end || !bias.is_number()) return arg.Wrong(kForm);
    const float value = bias.get<float>();
    if (!(value >= -100 && value <= 100)) return arg.Wrong(kForm);
    draft.base.logit_bias[token] = value;
  }
  return OkStatus();
}

Status FillSeed(Draft& draft, const Arg& arg) {
  int64_t seed = 0;
  TRIREME_RETURN_IF_ERROR(arg.Integer(INT64_MIN, INT64_MAX, seed));
  draft.request.seed = static_cast<uint64_t>(seed);
  return OkStatus();
}

Status FillStreamOptions(Draft& draft, const Arg& arg) {
  if (!arg.value.is_object()) return arg.Wrong("an object");
  draft.has_stream_options = true;
  for (const auto& [key, value] : arg.value.items()) {
    if (value.is_null()) continue;
    const std::string name = "stream_options." + key;
    const Arg member{name, value};
    if (key == "include_usage") {
      TRIREME_RETURN_IF_ERROR(member.Read(draft.request.include_usage));
    } else if (key == "include_obfuscation") {
      TRIREME_RETURN_IF_ERROR(member.Only(false, "events are sent as they are"));
    } else {
      return InvalidArgument("unknown field '{}'", name);
    }
  }
  return OkStatus();
}

Status FillServiceTier(Draft&, const Arg& arg) {
  if (arg.value == "auto" || arg.value == "default") return OkStatus();
  return arg.Wrong("\"auto\" or \"default\"; there are no tiers here");
}

Status FillEndsIgnored(Draft& draft, const Arg& arg) {
  bool ignored = false;
  TRIREME_RETURN_IF_ERROR(arg.Read(ignored));
  if (ignored) draft.base.end_ids.emplace();
  return OkStatus();
}

Status FillTopK(Draft& draft, const Arg& arg) {
  int& top_k = draft.base.sampling.top_k;
  TRIREME_RETURN_IF_ERROR(arg.Integer(-1, INT32_MAX, top_k));
  if (top_k == -1) top_k = 0;
  return OkStatus();
}

// The arguments of earlier tool calls are a JSON text for clients and an object for templates.
void ReadToolArguments(Json& message) {
  const auto calls = message.find("tool_calls");
  if (calls == message.end() || !calls->is_array()) return;
  for (Json& call : *calls) {
    if (!call.is_object() || !call.contains("function") || !call["function"].is_object()) continue;
    const auto arguments = call["function"].find("arguments");
    if (arguments == call["function"].end() || !arguments->is_string()) continue;
    StatusOr<Json> object = ParseJsonObject(arguments->get_ref<const std::string&>());
    if (object.ok()) *arguments = std::move(*object);
  }
}

Status FillMessages(Draft& draft, const Arg& arg) {
  if (!arg.value.is_array() || arg.value.empty()) return arg.Wrong("an array of messages");
  Json messages = arg.value;
  for (size_t i = 0; i < messages.size(); ++i) {
    if (!messages[i].is_object() || !messages[i].contains("role") ||
        !messages[i]["role"].is_string()) {
      return InvalidArgument("'messages[{}]' must be an object with a 'role'", i);
    }
    const Json content = messages[i].value("content", Json());
    if (!content.is_null() && !content.is_string() && !content.is_array()) {
      return InvalidArgument("'messages[{}].content' must be a string or an array of text parts",
                             i);
    }
    ReadToolArguments(messages[i]);
  }
  draft.prompts.push_back({.messages_json = messages.dump()});
  return OkStatus();
}

Status FillTools(Draft& draft, const Arg& arg) {
  if (!arg.value.is_array()) return arg.Wrong("an array of tools");
  for (size_t i = 0; i < arg.value.size(); ++i) {
    const Json& tool = arg.value[i];
    const bool is_function = tool.is_object() && tool.value("type", Json()) == "function" &&
                             tool.contains("function") && tool["function"].is_object();
    if (!is_function) {
      return InvalidArgument(
          "'tools[{}]' must be {{\"type\": \"function\", \"function\": {{...}}}}", i);
    }
  }
  if (!arg.value.empty()) draft.base.tools_json = arg.value.dump();
  return OkStatus();
}

Status FillToolChoice(Draft& draft, const Arg& arg) {
  draft.tools_allowed = arg.value != "none";
  if (!draft.tools_allowed || arg.value == "auto") return OkStatus();
  return arg.Wrong("\"auto\" or \"none\"; output cannot be forced into a form yet");
}

Status FillResponseFormat(Draft&, const Arg& arg) {
  if (arg.value.is_object() && arg.value.value("type", Json()) == "text") return OkStatus();
  return arg.Wrong("{\"type\": \"text\"}; output cannot be forced into a form yet");
}

Status FillTemplateVariables(Draft& draft, const Arg& arg) {
  if (!arg.value.is_object()) return arg.Wrong("an object");
  draft.template_variables.update(arg.value);
  return OkStatus();
}

Status FillReasoningEffort(Draft& draft, const Arg& arg) {
  std::string effort;
  TRIREME_RETURN_IF_ERROR(arg.Read(effort));
  draft.template_variables["reasoning_effort"] = effort;
  return OkStatus();
}

Status AddPromptIds(Draft& draft, const Arg& arg, const Json& ids) {
  GenerateRequest prompt;
  for (const Json& id : ids) {
    int token = 0;
    TRIREME_RETURN_IF_ERROR((Arg{arg.name, id}).Integer(0, INT32_MAX, token));
    prompt.prompt_ids.push_back(token);
  }
  draft.prompts.push_back(std::move(prompt));
  return OkStatus();
}

// A text, texts, token ids, or lists of token ids.
Status FillPrompt(Draft& draft, const Arg& arg) {
  constexpr std::string_view kForm = "a string, token ids, or a non-empty array of either";
  const auto add_text = [&](const Json& text) {
    draft.prompts.push_back({.prompt = text.get<std::string>()});
  };
  if (arg.value.is_string()) {
    add_text(arg.value);
    return OkStatus();
  }
  if (!arg.value.is_array() || arg.value.empty()) return arg.Wrong(kForm);
  if (arg.value[0].is_number()) return AddPromptIds(draft, arg, arg.value);
  if (arg.value.size() > kMaxPrompts) {
    return InvalidArgument("'{}' has {} prompts, more than {}", arg.name, arg.value.size(),
                           kMaxPrompts);
  }
  for (const Json& prompt : arg.value) {
    if (prompt.is_string()) {
      add_text(prompt);
    } else if (prompt.is_array() && !prompt.empty()) {
      TRIREME_RETURN_IF_ERROR(AddPromptIds(draft, arg, prompt));
    } else {
      return arg.Wrong(kForm);
    }
  }
  return OkStatus();
}

using Fill = Status (*)(Draft& draft, const Arg& arg);

struct Field {
  std::string_view name;
  Fill fill;
};

constexpr Field kCommonFields[] = {
    {"model", [](Draft& d, const Arg& arg) { return arg.Read(d.request.model); }},
    {"max_tokens",
     [](Draft& d, const Arg& arg) { return arg.Integer(1, INT32_MAX, d.base.max_tokens); }},
    {"temperature",
     [](Draft& d, const Arg& arg) { return arg.Number(0, 2, d.base.sampling.temperature); }},
    {"top_p", [](Draft& d, const Arg& arg) { return arg.Number(0, 1, d.base.sampling.top_p); }},
    {"n",
     [](Draft& d, const Arg& arg) {
       return arg.Integer(1, kMaxChoices, d.base.sampling.num_return_sequences);
     }},
    {"stream", [](Draft& d, const Arg& arg) { return arg.Read(d.request.stream); }},
    {"stream_options", FillStreamOptions},
    {"stop", FillStop},
    {"presence_penalty",
     [](Draft& d, const Arg& arg) { return arg.Number(-2, 2, d.base.sampling.presence_penalty); }},
    {"frequency_penalty",
     [](Draft& d, const Arg& arg) { return arg.Number(-2, 2, d.base.sampling.frequency_penalty); }},
    {"logit_bias", FillLogitBias},
    {"seed", FillSeed},
    // Names an end user to whoever runs the server; the answer is the same.
    {"user",
     [](Draft&, const Arg& arg) {
       std::string user;
       return arg.Read(user);
     }},
    // Beyond OpenAI's own, by the names other servers use.
    {"top_k", FillTopK},
    {"min_p", [](Draft& d, const Arg& arg) { return arg.Number(0, 1, d.base.sampling.min_p); }},
    {"repetition_penalty",
     [](Draft& d, const Arg& arg) {
       return arg.Number(0.01f, 100, d.base.sampling.repetition_penalty);
     }},
    {"min_tokens",
     [](Draft& d, const Arg& arg) {
       return arg.Integer(0, INT32_MAX, d.base.sampling.min_tokens);
     }},
    {"ignore_eos", FillEndsIgnored},
    {"skip_special_tokens",
     [](Draft& d, const Arg& arg) { return arg.Read(d.base.skip_special_tokens); }},
    {"include_stop_str_in_output",
     [](Draft& d, const Arg& arg) { return arg.Read(d.base.include_stop_in_output); }},
};

constexpr Field kChatFields[] = {
    {"messages", FillMessages},
    {"max_completion_tokens",
     [](Draft& d, const Arg& arg) { return arg.Integer(1, INT32_MAX, d.base.max_tokens); }},
    {"logprobs", [](Draft& d, const Arg& arg) { return arg.Read(d.request.log_probs); }},
    {"top_logprobs",
     [](Draft& d, const Arg& arg) {
       return arg.Integer(0, kMaxTopLogProbs, d.top_log_probs.emplace());
     }},
    {"tools", FillTools},
    {"tool_choice", FillToolChoice},
    {"parallel_tool_calls",
     [](Draft&, const Arg& arg) { return arg.Only(true, "the model decides"); }},
    {"response_format", FillResponseFormat},
    {"modalities",
     [](Draft&, const Arg& arg) {
       return arg.Only(Json::array({"text"}), "only text is generated");
     }},
    {"reasoning_effort", FillReasoningEffort},
    {"service_tier", FillServiceTier},
    {"store", [](Draft&, const Arg& arg) { return arg.Only(false, "nothing is stored"); }},
    {"chat_template_kwargs", FillTemplateVariables},
};

constexpr Field kCompletionFields[] = {
    {"prompt", FillPrompt},
    {"echo", [](Draft& d, const Arg& arg) { return arg.Read(d.request.echo); }},
    {"logprobs",
     [](Draft& d, const Arg& arg) {
       d.request.log_probs = true;
       return arg.Integer(0, kMaxTopLogProbs, d.top_log_probs.emplace());
     }},
    {"best_of",
     [](Draft& d, const Arg& arg) { return arg.Integer(1, kMaxChoices, d.best_of.emplace()); }},
    {"add_special_tokens",
     [](Draft& d, const Arg& arg) { return arg.Read(d.base.add_special_tokens); }},
};

// Null: unknown.
const Field* FindField(OpenAiKind kind, std::string_view name) {
  const std::span<const Field> own = kind == OpenAiKind::kChat
                                         ? std::span<const Field>(kChatFields)
                                         : std::span<const Field>(kCompletionFields);
  for (const std::span<const Field> fields : {std::span<const Field>(kCommonFields), own}) {
    const auto found = std::ranges::find(fields, name, &Field::name);
    if (found != fields.end()) return &*found;
  }
  return nullptr;
}

// Documented fields of features that do not exist here.
constexpr std::string_view kUnavailable[] = {"suffix",
                                             "functions",
                                             "function_call",
                                             "audio",
                                             "prediction",
                                             "metadata",
                                             "verbosity",
                                             "web_search_options",
                                             "safety_identifier",
                                             "prompt_cache_key",
                                             "prompt_cache_retention",
                                             "guided_json",
                                             "guided_regex",
                                             "guided_choice",
                                             "guided_grammar",
                                             "use_beam_search"};

Status ReadFields(Draft& draft, const Json& body, std::string& param) {
  for (const auto& [name, value] : body.items()) {
    if (value.is_null()) continue;
    param = name;
    const Field* field = FindField(draft.request.kind, name);
    if (field != nullptr) {
      TRIREME_RETURN_IF_ERROR(field->fill(draft, {name, value}));
    } else if (std::find(std::begin(kUnavailable), std::end(kUnavailable), name) !=
               std::end(kUnavailable)) {
      return InvalidArgument("'{}' belongs to a feature that does not exist here", name);
    } else {
      return InvalidArgument("unknown field '{}'", name);
    }
  }
  param.clear();
  return OkStatus();
}

// What takes more than one field to judge.
Status CheckTogether(Draft& draft, const Json& body, std::string& param) {
  const auto fail = [&](std::string field, Status status) {
    param = std::move(field);
    return status;
  };
  const bool chat = draft.request.kind == OpenAiKind::kChat;
  const auto given = [&](const char* name) { return body.contains(name) && !body[name].is_null(); };
  if (draft.request.model.empty()) {
    return fail("model", InvalidArgument("'model' is missing: name a model of GET /v1/models"));
  }
  if (draft.prompts.empty()) {
    const char* field = chat ? "messages" : "prompt";
    return fail(field, InvalidArgument("'{}' is missing", field));
  }
  if (given("max_tokens") && given("max_completion_tokens")) {
    return fail("max_tokens", InvalidArgument("give 'max_completion_tokens' or the older "
                                              "'max_tokens', not both"));
  }
  if (draft.has_stream_options && !draft.request.stream) {
    return fail("stream_options", InvalidArgument("'stream_options' needs 'stream': true"));
  }
  if (draft.top_log_probs && !draft.request.log_probs) {
    return fail("top_logprobs", InvalidArgument("'top_logprobs' needs 'logprobs': true"));
  }
  if (draft.best_of && *draft.best_of != draft.base.sampling.num_return_sequences) {
    return fail("best_of",
                InvalidArgument("'best_of' {} differs from 'n' {}: choosing among more "
                                "is not supported",
                                *draft.best_of, draft.base.sampling.num_return_sequences));
  }
  if (draft.request.echo && draft.request.log_probs) {
    return fail("logprobs", InvalidArgument("'logprobs' with 'echo' is not supported: there are "
                                            "none for the prompt yet"));
  }
  return OkStatus();
}

// Brings what belongs together into the form of the generator.
void Complete(Draft& draft) {
  GenerateRequest& base = draft.base;
  SamplingParams& sampling = base.sampling;
  const bool chat = draft.request.kind == OpenAiKind::kChat;
  if (!chat && base.max_tokens == 0) base.max_tokens = 16;
  if (sampling.temperature == 0 || sampling.top_p == 0) {
    sampling.temperature = 1;
    sampling.top_p = 1;
    sampling.top_k = 1;
  }
  if (!draft.tools_allowed) base.tools_json.clear();
  if (!draft.template_variables.empty()) {
    base.template_variables_json = draft.template_variables.dump();
  }
  draft.request.num_top_log_probs = draft.top_log_probs.value_or(0);
  // Logits are reduced as they come: a whole answer's would take much memory.
  base.output.return_generation_logits = draft.request.log_probs;
  base.streaming = draft.request.stream || draft.request.log_probs;
  for (GenerateRequest& prompt : draft.prompts) {
    GenerateRequest generation = base;
    generation.prompt = std::move(prompt.prompt);
    generation.prompt_ids = std::move(prompt.prompt_ids);
    generation.messages_json = std::move(prompt.messages_json);
    draft.request.generations.push_back(std::move(generation));
  }
}

}  // namespace

StatusOr<OpenAiRequest> ParseOpenAiRequest(OpenAiKind kind, std::string_view body,
                                           std::string& param) {
  param.clear();
  TRIREME_ASSIGN_OR_RETURN(const Json json, ParseJsonObject(body));
  Draft draft;
  draft.request.kind = kind;
  draft.base.sampling.top_p = 1;
  TRIREME_RETURN_IF_ERROR(ReadFields(draft, json, param));
  TRIREME_RETURN_IF_ERROR(CheckTogether(draft, json, param));
  Complete(draft);
  return std::move(draft.request);
}

std::string_view FieldNamedBy(OpenAiKind kind, std::string_view message) {
  const std::string_view word = message.substr(0, message.find_first_of(" ["));
  if (kind == OpenAiKind::kChat && word == "prompt") return "messages";
  return FindField(kind, word) == nullptr ? std::string_view() : word;
}

}  // namespace trireme::server
