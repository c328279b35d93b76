// SPDX-License-Identifier: Apache-2.0
// The tensors of vLLM's Triton backend: a prompt, sampling parameters as JSON or as parameters of the
// request, text out. Older configurations call them PROMPT, STREAM, SAMPLING_PARAMETERS and TEXT, and
// some have names of their own.
#include <algorithm>

#include "base/status.h"
#include "server/backends/llm/piece_tensors.h"
#include "server/backends/llm/read_tensor.h"
#include "server/backends/llm/vllm_sampling.h"

namespace trireme::server {
namespace {

const std::vector<TensorConfig>& Inputs() {
  static const auto* inputs = new std::vector<TensorConfig>{
      {.name = "text_input", .type = DataType::kBytes, .dims = {1}},
      {.name = "stream", .type = DataType::kBool, .dims = {1}, .optional = true},
      {.name = "sampling_parameters", .type = DataType::kBytes, .dims = {1}, .optional = true},
      {.name = "exclude_input_in_output", .type = DataType::kBool, .dims = {1}, .optional = true},
      {.name = "return_finish_reason", .type = DataType::kBool, .dims = {1}, .optional = true},
      {.name = "return_cumulative_logprob", .type = DataType::kBool, .dims = {1}, .optional = true},
      {.name = "return_logprobs", .type = DataType::kBool, .dims = {1}, .optional = true},
      {.name = "return_num_input_tokens", .type = DataType::kBool, .dims = {1}, .optional = true},
      {.name = "return_num_output_tokens", .type = DataType::kBool, .dims = {1}, .optional = true},
      {.name = "image", .type = DataType::kBytes, .dims = {-1}, .optional = true},
      {.name = "embedding_request", .type = DataType::kBytes, .dims = {1}, .optional = true}};
  return *inputs;
}

const std::vector<TensorConfig>& Outputs() {
  static const auto* outputs = new std::vector<TensorConfig>{
      {.name = "text_output", .type = DataType::kBytes, .dims = {-1}},
      {.name = "finish_reason", .type = DataType::kBytes, .dims = {-1}},
      {.name = "cumulative_logprob", .type = DataType::kFp32, .dims = {-1}},
      {.name = "logprobs", .type = DataType::kBytes, .dims = {-1}},
      {.name = "num_input_tokens", .type = DataType::kUint32, .dims = {1}},
      {.name = "num_output_tokens", .type = DataType::kUint32, .dims = {-1}}};
  return *outputs;
}

constexpr const char* kOlderInputs[] = {"STREAM", "SAMPLING_PARAMETERS"};

// The text tensor that is neither one of `known` (but for the first, which it stands for) nor of the
// older names.
std::string OwnName(const std::vector<TensorConfig>& tensors,
                    const std::vector<TensorConfig>& known) {
  for (const TensorConfig& tensor : tensors) {
    const bool is_known = std::any_of(known.begin() + 1, known.end(),
                                      [&](const auto& other) { return other.name == tensor.name; });
    const bool is_older = std::ranges::count(kOlderInputs, tensor.name) > 0;
    if (tensor.type == DataType::kBytes && !is_known && !is_older) return tensor.name;
  }
  return known.front().name;
}

const char* FinishName(FinishReason reason) {
  switch (reason) {
    case FinishReason::kLength: return "length";
    case FinishReason::kEndId:
    case FinishReason::kStopWords: return "stop";
    case FinishReason::kNotFinished: return "None";
    default: return "abort";
  }
}

class VllmFace : public LlmFace {
 public:
  explicit VllmFace(const LlmFaceOptions& options)
      : prompt_(OwnName(options.config.inputs, Inputs())),
        text_(OwnName(options.config.outputs, Outputs())) {}

  bool makes_text() const override { return true; }

  StatusOr<LlmRequest> ToRequest(const InputRow& row, const InferRequest& request) const override {
    for (const char* name : {"image", "embedding_request"}) {
      const Tensor* given = FindTensor(row, name);
      if (given != nullptr && !given->data.empty()) {
        return Unimplemented("'{}' belongs to a feature that does not exist yet", name);
      }
    }
    LlmRequest filled;
    GenerateRequest& generate = filled.generate;
    const Tensor* prompt = FindTensor(row, prompt_);
    if (prompt == nullptr) return InvalidArgument("'{}' is missing", prompt_);
    TRIREME_RETURN_IF_ERROR(ReadText(*prompt, generate.prompt.emplace()));
    std::string sampling;
    for (const char* name : {"sampling_parameters", "SAMPLING_PARAMETERS"}) {
      const Tensor* given = FindTensor(row, name);
      if (given != nullptr) TRIREME_RETURN_IF_ERROR(ReadText(*given, sampling));
    }
    TRIREME_RETURN_IF_ERROR(ReadVllmSampling(sampling, request.parameters, generate));
    TRIREME_RETURN_IF_ERROR(ReadFlags(row, filled));
    if (request.single_response) generate.streaming = false;
    if (generate.streaming) generate.output.exclude_input_from_output = true;
    generate.timeout_ms = request.timeout_ms();
    return filled;
  }

  InferResponse ToResponse(std::span<const LlmPiece> pieces, const LlmBatch& batch) const override {
    InferResponse response;
    const PieceGrid grid = ArrangePieces(pieces, batch);
    std::string texts;
    std::string reasons;
    std::vector<float> cumulative;
    std::vector<uint32_t> counts;
    for (const LlmPiece* piece : grid.pieces) {
      if (piece == nullptr) continue;
      AppendBytesElement(texts, piece->output.text);
      AppendBytesElement(reasons, FinishName(piece->output.finish_reason));
      cumulative.push_back(piece->output.cum_log_prob);
      counts.push_back(static_cast<uint32_t>(piece->output.num_output_tokens));
    }
    const auto num = std::ssize(counts);
    const LlmRequest& request = batch.requests.front();
    response.outputs.push_back(MakeTensor(text_, DataType::kBytes, {num}, std::move(texts)));
    response.outputs.push_back(
        MakeTensor("finish_reason", DataType::kBytes, {num}, std::move(reasons)));
    if (request.generate.output.return_log_probs) {
      response.outputs.push_back(MakeTensorOf<float>("cumulative_logprob", DataType::kFp32, {num},
                                                     std::span(std::as_const(cumulative))));
    }
    if (request.return_num_input_tokens) {
      const auto tokens = static_cast<uint32_t>(pieces.front().output.num_prompt_tokens);
      response.outputs.push_back(MakeTensorOf<uint32_t>("num_input_tokens", DataType::kUint32, {1},
                                                        std::span(&tokens, 1)));
    }
    if (request.return_num_output_tokens) {
      response.outputs.push_back(MakeTensorOf<uint32_t>("num_output_tokens", DataType::kUint32,
                                                        {num}, std::span(std::as_const(counts))));
    }
    if (!request.return_finish_reason) response.outputs.erase(response.outputs.begin() + 1);
    return response;
  }

 private:
  static Status ReadFlags(const InputRow& row, LlmRequest& filled) {
    GenerateRequest& generate = filled.generate;
    generate.output.exclude_input_from_output = false;
    bool log_probs = false;
    const std::pair<const char*, bool*> flags[] = {
        {"stream", &generate.streaming},
        {"STREAM", &generate.streaming},
        {"exclude_input_in_output", &generate.output.exclude_input_from_output},
        {"return_cumulative_logprob", &generate.output.return_log_probs},
        {"return_finish_reason", &filled.return_finish_reason},
        {"return_num_input_tokens", &filled.return_num_input_tokens},
        {"return_num_output_tokens", &filled.return_num_output_tokens},
        {"return_logprobs", &log_probs}};
    for (const auto& [name, flag] : flags) {
      const Tensor* given = FindTensor(row, name);
      if (given != nullptr) TRIREME_RETURN_IF_ERROR(ReadTensor(*given, *flag));
    }
    if (!log_probs) return OkStatus();
    return Unimplemented("'return_logprobs' belongs to a feature that does not exist yet");
  }

  const std::string prompt_;
  const std::string text_;
};

}  // namespace

std::vector<TensorConfig> VllmInputs() { return Inputs(); }
std::vector<TensorConfig> VllmOutputs() { return Outputs(); }

std::unique_ptr<LlmFace> MakeVllmFace(const LlmFaceOptions& options) {
  return std::make_unique<VllmFace>(options);
}

}  // namespace trireme::server
