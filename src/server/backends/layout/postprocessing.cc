// SPDX-License-Identifier: Apache-2.0
// Backend `llm_postprocessing`: token ids to texts, as the five-model layout's postprocessing does.
// The pieces of a stream are decoded together: a space or half a character waits for its piece.
#include "base/status.h"
#include "server/backends/layout/layout_tokenizer.h"
#include "server/backends/tensor_values.h"

namespace trireme::server {
namespace {

const std::vector<TensorConfig>& Inputs() {
  static const auto* inputs = new std::vector<TensorConfig>{
      {.name = "TOKENS_BATCH", .type = DataType::kInt32, .dims = {-1, -1}},
      {.name = "SEQUENCE_LENGTH", .type = DataType::kInt32, .dims = {-1}},
      {.name = "CUM_LOG_PROBS", .type = DataType::kFp32, .dims = {-1}},
      {.name = "OUTPUT_LOG_PROBS", .type = DataType::kFp32, .dims = {-1, -1}},
      {.name = "CONTEXT_LOGITS", .type = DataType::kFp32, .dims = {-1, -1}},
      {.name = "GENERATION_LOGITS", .type = DataType::kFp32, .dims = {-1, -1, -1}},
      {.name = "BATCH_INDEX", .type = DataType::kInt32, .dims = {1}}};
  return *inputs;
}

const std::vector<TensorConfig>& Outputs() {
  static const auto* outputs = new std::vector<TensorConfig>{
      {.name = "OUTPUT", .type = DataType::kBytes, .dims = {-1}},
      {.name = "OUT_CUM_LOG_PROBS", .type = DataType::kFp32, .dims = {-1}},
      {.name = "OUT_OUTPUT_LOG_PROBS", .type = DataType::kFp32, .dims = {-1, -1}},
      {.name = "OUT_CONTEXT_LOGITS", .type = DataType::kFp32, .dims = {-1, -1}},
      {.name = "OUT_GENERATION_LOGITS", .type = DataType::kFp32, .dims = {-1, -1, -1}},
      {.name = "OUT_BATCH_INDEX", .type = DataType::kInt32, .dims = {1}}};
  return *outputs;
}

constexpr LayoutParameter kParameters[] = {
    {"tokenizer_dir", true},  {"gpt_model_path", true},      {"engine_dir", true},
    {"tokenizer_type", true}, {"skip_special_tokens", true},
};

// What decoding a stream keeps between its pieces.
struct StreamState {
  std::shared_ptr<const Tokenizer> tokenizer;  // shared: the stream may outlive the model
  std::unique_ptr<DecodeStream> decoder;
};

class PostprocessingModel : public BackendModel {
 public:
  PostprocessingModel(std::shared_ptr<const Tokenizer> tokenizer, bool skip_special_tokens)
      : tokenizer_(std::move(tokenizer)), skip_special_tokens_(skip_special_tokens) {}

  Style style() const override { return Style::kContinuous; }

  void Execute(Execution& execution) override {
    for (const auto& call : execution.calls()) {
      StatusOr<InferResponse> response = Decode(call->request());
      if (response.ok()) {
        call->Respond(std::move(*response));
      } else {
        call->Fail(response.status());
      }
    }
  }

 private:
  // A piece: what its tokens make certain.
  std::string DecodePiece(const Tensor& tokens, std::span<const int32_t> ids) const {
    StreamState& state = tokens.stream->For<StreamState>(this, [&] {
      return new StreamState{tokenizer_, tokenizer_->NewDecodeStream(skip_special_tokens_)};
    });
    std::string text;
    if (state.decoder == nullptr) return text;  // ended before
    for (const int32_t id : ids) state.decoder->Append(id, text);
    if (!tokens.ends_stream) return text;
    state.decoder->Finish(text);
    state.decoder.reset();
    return text;
  }

  // [batch..., sequences, tokens] and [batch..., sequences], in either form of batching.
  StatusOr<InferResponse> Decode(const InferRequest& request) const {
    const Tensor& tokens = *request.FindInput("TOKENS_BATCH");
    const std::vector<int32_t> ids = ValuesOf<int32_t>(tokens);
    const std::vector<int32_t> lengths = ValuesOf<int32_t>(*request.FindInput("SEQUENCE_LENGTH"));
    const auto width = static_cast<size_t>(tokens.shape.back());
    std::string texts;
    for (size_t i = 0; i < lengths.size(); ++i) {
      if (lengths[i] < 0 || std::cmp_greater(lengths[i], width) || (i + 1) * width > ids.size()) {
        return InvalidArgument("SEQUENCE_LENGTH[{}] is {}, but TOKENS_BATCH has shape {}", i,
                               lengths[i], ShapeText(tokens.shape));
      }
      const std::span<const int32_t> sequence(ids.data() + i * width,
                                              static_cast<size_t>(lengths[i]));
      std::string text;
      if (tokens.stream != nullptr && lengths.size() == 1) {
        text = DecodePiece(tokens, sequence);
      } else {
        TRIREME_ASSIGN_OR_RETURN(text, tokenizer_->Decode(sequence, skip_special_tokens_));
      }
      AppendBytesElement(texts, text);
    }
    InferResponse response;
    response.outputs.push_back(
        MakeTensor("OUTPUT", DataType::kBytes, {std::ssize(lengths)}, std::move(texts)));
    response.outputs.back().ends_stream = tokens.ends_stream;
    // Older layouts lead what is not text through here, as it is.
    for (const Tensor& input : request.inputs) {
      if (input.name == "TOKENS_BATCH" || input.name == "SEQUENCE_LENGTH") continue;
      response.outputs.push_back(input);
      response.outputs.back().name = "OUT_" + input.name;
    }
    return response;
  }

  const std::shared_ptr<const Tokenizer> tokenizer_;
  const bool skip_special_tokens_;
};

class PostprocessingBackend : public Backend {
 public:
  Status Complete(const CompletionContext& context, ModelConfig& config) const override {
    if (config.inputs.empty() && config.outputs.empty()) {
      config.inputs = {Inputs().begin(), Inputs().begin() + 2};
      config.outputs = {Outputs().front()};
    }
    // What the text model was not asked for does not come.
    for (TensorConfig& input : config.inputs) {
      input.optional |= input.name != "TOKENS_BATCH" && input.name != "SEQUENCE_LENGTH";
    }
    config.dynamic_batching.reset();  // nothing waits here
    return OkStatus();
  }

  StatusOr<std::unique_ptr<BackendModel>> Load(const BackendContext& context) const override {
    TRIREME_RETURN_IF_ERROR(CheckLayoutConfig(context.config, kParameters, Inputs(), Outputs()));
    if (context.config.FindInput("TOKENS_BATCH") == nullptr ||
        context.config.FindInput("SEQUENCE_LENGTH") == nullptr) {
      return InvalidArgument("model '{}' must declare inputs TOKENS_BATCH and SEQUENCE_LENGTH",
                             context.config.name);
    }
    TRIREME_ASSIGN_OR_RETURN(auto tokenizer, LoadLayoutTokenizer(context));
    TRIREME_ASSIGN_OR_RETURN(const bool skip_special_tokens,
                             FlagParameter(context.config, "skip_special_tokens", true));
    return std::unique_ptr<BackendModel>(
        std::make_unique<PostprocessingModel>(std::move(tokenizer), skip_special_tokens));
  }
};

}  // namespace

std::shared_ptr<const Backend> MakePostprocessingBackend() {
  return std::make_shared<PostprocessingBackend>();
}

}  // namespace trireme::server
