// SPDX-License-Identifier: Apache-2.0
#include "server/backends/llm/llm_face.h"

#include <set>

#include "base/status.h"
#include "server/backends/llm/llm_fields.h"

namespace trireme::server {
namespace {

std::string_view KindName(LlmFaceKind kind) {
  switch (kind) {
    case LlmFaceKind::kText: return "text in, text out";
    case LlmFaceKind::kTokens: return "token ids in, token ids out";
    case LlmFaceKind::kLogits: return "token ids in, logits out";
    case LlmFaceKind::kVllm: return "engine arguments";
  }
  return "";
}

bool IsFloat(DataType type) {
  return type == DataType::kFp16 || type == DataType::kBf16 || type == DataType::kFp32;
}

// Upstream's templates leave the float type of embeddings and logits open.
bool TypeFits(const TensorConfig& declared, const TensorConfig& known) {
  if (declared.type == known.type) return true;
  const bool is_open = known.type == DataType::kFp16 || known.name.ends_with("logits");
  return is_open && IsFloat(declared.type) && IsFloat(known.type);
}

Status CheckDeclared(const std::vector<TensorConfig>& declared,
                     const std::vector<TensorConfig>& known, std::string_view what,
                     const ModelConfig& config, LlmFaceKind kind) {
  for (const TensorConfig& tensor : declared) {
    const TensorConfig* found = nullptr;
    for (const TensorConfig& one : known) {
      if (one.name == tensor.name) found = &one;
    }
    if (found == nullptr) {
      return InvalidArgument("model '{}' declares {} '{}', which a text model ({}) does not have",
                             config.name, what, tensor.name, KindName(kind));
    }
    if (!TypeFits(tensor, *found)) {
      return InvalidArgument("model '{}' declares {} '{}' as {}, but it is {}", config.name, what,
                             tensor.name, DataTypeName(tensor.type), DataTypeName(found->type));
    }
  }
  return OkStatus();
}

// Outputs of features that do not exist: they may be declared and never come.
std::vector<TensorConfig> AbsentOutputs() {
  std::vector<TensorConfig> outputs;
  for (const char* name :
       {"kv_cache_alloc_new_blocks", "kv_cache_reused_blocks", "kv_cache_alloc_total_blocks",
        "total_accepted_draft_tokens", "total_draft_tokens"}) {
    outputs.push_back({.name = name, .type = DataType::kInt32, .dims = {1}});
  }
  for (const char* name : {"arrival_time_ns", "first_scheduled_time_ns", "first_token_time_ns",
                           "last_token_time_ns"}) {
    outputs.push_back({.name = name, .type = DataType::kInt64, .dims = {1}});
  }
  outputs.push_back({.name = "acceptance_rate", .type = DataType::kFp32, .dims = {1}});
  outputs.push_back({.name = "context_phase_params", .type = DataType::kUint8, .dims = {-1}});
  return outputs;
}

}  // namespace

std::vector<TensorConfig> LlmInputs(LlmFaceKind kind) {
  if (kind == LlmFaceKind::kVllm) return VllmInputs();
  if (kind == LlmFaceKind::kLogits) {
    return {{.name = "input_ids", .type = DataType::kInt32, .dims = {-1}}};
  }
  std::vector<TensorConfig> inputs;
  for (const LlmField& field : LlmFields()) {
    const char* name = kind == LlmFaceKind::kTokens ? field.token_name : field.text_name;
    if (name == nullptr) continue;
    inputs.push_back({.name = name, .type = field.type, .dims = field.dims()});
    inputs.back().optional = !field.required;
  }
  return inputs;
}

std::vector<TensorConfig> LlmOutputs(LlmFaceKind kind) {
  if (kind == LlmFaceKind::kVllm) return VllmOutputs();
  if (kind == LlmFaceKind::kLogits) {
    return {{.name = "logits", .type = DataType::kFp32, .dims = {-1, -1}}};
  }
  std::vector<TensorConfig> outputs;
  if (kind == LlmFaceKind::kTokens) {
    outputs = {{.name = "output_ids", .type = DataType::kInt32, .dims = {-1, -1}},
               {.name = "sequence_length", .type = DataType::kInt32, .dims = {-1}}};
  } else {
    outputs = {{.name = "text_output", .type = DataType::kBytes, .dims = {-1}}};
  }
  const std::vector<TensorConfig> others = {
      {.name = "cum_log_probs", .type = DataType::kFp32, .dims = {-1}},
      {.name = "output_log_probs", .type = DataType::kFp32, .dims = {-1, -1}},
      {.name = "context_logits", .type = DataType::kFp32, .dims = {-1, -1}},
      {.name = "generation_logits", .type = DataType::kFp32, .dims = {-1, -1, -1}},
      {.name = "batch_index", .type = DataType::kInt32, .dims = {1}},
      {.name = "sequence_index", .type = DataType::kInt32, .dims = {1}},
      {.name = "num_input_tokens", .type = DataType::kInt32, .dims = {1}},
      {.name = "num_output_tokens", .type = DataType::kInt32, .dims = {1}}};
  outputs.insert(outputs.end(), others.begin(), others.end());
  return outputs;
}

StatusOr<LlmFaceKind> ChooseLlmFace(const ModelConfig& config) {
  LlmFaceKind kind = LlmFaceKind::kText;
  if (config.backend == "vllm") return LlmFaceKind::kVllm;
  if (config.inputs.empty() && config.outputs.empty()) return kind;
  if (config.FindInput("input_ids") != nullptr) {
    const bool logits_only =
        config.FindOutput("logits") != nullptr && config.FindOutput("output_ids") == nullptr;
    kind = logits_only ? LlmFaceKind::kLogits : LlmFaceKind::kTokens;
  }
  TRIREME_RETURN_IF_ERROR(CheckDeclared(config.inputs, LlmInputs(kind), "input", config, kind));
  std::vector<TensorConfig> outputs = LlmOutputs(kind);
  const std::vector<TensorConfig> absent = AbsentOutputs();
  outputs.insert(outputs.end(), absent.begin(), absent.end());
  TRIREME_RETURN_IF_ERROR(CheckDeclared(config.outputs, outputs, "output", config, kind));
  for (const TensorConfig& input : LlmInputs(kind)) {
    if (!input.optional && config.FindInput(input.name) == nullptr &&
        input.name != "input_lengths") {
      return InvalidArgument(
          "model '{}' does not declare input '{}', which a text model ({}) needs", config.name,
          input.name, KindName(kind));
    }
  }
  return kind;
}

std::unique_ptr<LlmFace> MakeLlmFace(LlmFaceKind kind, const LlmFaceOptions& options) {
  switch (kind) {
    case LlmFaceKind::kTokens: return MakeTokenFace(options);
    case LlmFaceKind::kLogits: return MakeLogitsFace(options);
    case LlmFaceKind::kVllm: return MakeVllmFace(options);
    case LlmFaceKind::kText: break;
  }
  return MakeTextFace(options);
}

}  // namespace trireme::server
