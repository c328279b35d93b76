// SPDX-License-Identifier: Apache-2.0
// Backend `llm_preprocessing`: texts to token ids, as the five-model layout's preprocessing does. It
// has no instances and no queue: a prompt is tokenized on the caller's thread.
#include <algorithm>

#include "base/status.h"
#include "generate/prompt.h"
#include "server/backends/layout/layout_tokenizer.h"
#include "server/backends/llm/read_tensor.h"
#include "server/core/tensor_rows.h"

namespace trireme::server {
namespace {

using Words = std::vector<std::vector<TokenId>>;

std::vector<TensorConfig> Tensors(std::initializer_list<TensorConfig> required,
                                  std::initializer_list<TensorConfig> optional) {
  std::vector<TensorConfig> tensors = required;
  for (const TensorConfig& tensor : optional) {
    tensors.push_back(tensor);
    tensors.back().optional = true;
  }
  return tensors;
}

const std::vector<TensorConfig>& Inputs() {
  using enum DataType;
  static const auto* inputs = new std::vector<TensorConfig>(
      Tensors({{.name = "QUERY", .type = kBytes, .dims = {1}},
               {.name = "REQUEST_OUTPUT_LEN", .type = kInt32, .dims = {1}}},
              {{.name = "DECODER_QUERY", .type = kBytes, .dims = {1}},
               {.name = "BAD_WORDS_DICT", .type = kBytes, .dims = {-1}},
               {.name = "STOP_WORDS_DICT", .type = kBytes, .dims = {-1}},
               {.name = "EMBEDDING_BIAS_WORDS", .type = kBytes, .dims = {-1}},
               {.name = "EMBEDDING_BIAS_WEIGHTS", .type = kFp32, .dims = {-1}},
               {.name = "END_ID", .type = kInt32, .dims = {1}},
               {.name = "PAD_ID", .type = kInt32, .dims = {1}},
               {.name = "PROMPT_TABLE_EXTRA_ID", .type = kUint64, .dims = {1}},
               {.name = "IMAGE_BYTES", .type = kUint8, .dims = {-1, -1, -1, -1}},
               {.name = "IMAGE_URL", .type = kBytes, .dims = {1}},
               {.name = "IMAGE", .type = kFp16, .dims = {-1, -1, -1, -1}},
               {.name = "IMAGES", .type = kBytes, .dims = {-1}},
               {.name = "VIDEO_BYTES", .type = kUint8, .dims = {-1, -1, -1, -1}}}));
  return *inputs;
}

const std::vector<TensorConfig>& Outputs() {
  using enum DataType;
  static const auto* outputs = new std::vector<TensorConfig>(
      Tensors({{.name = "INPUT_ID", .type = kInt32, .dims = {-1}},
               {.name = "REQUEST_INPUT_LEN", .type = kInt32, .dims = {1}},
               {.name = "DECODER_INPUT_ID", .type = kInt32, .dims = {-1}},
               {.name = "REQUEST_DECODER_INPUT_LEN", .type = kInt32, .dims = {1}},
               {.name = "BAD_WORDS_IDS", .type = kInt32, .dims = {2, -1}},
               {.name = "STOP_WORDS_IDS", .type = kInt32, .dims = {2, -1}},
               {.name = "EMBEDDING_BIAS", .type = kFp32, .dims = {-1}},
               {.name = "REQUEST_OUTPUT_LEN", .type = kInt32, .dims = {-1}},
               {.name = "OUT_END_ID", .type = kInt32, .dims = {1}},
               {.name = "OUT_PAD_ID", .type = kInt32, .dims = {1}}},
              // Of models with more than text; they never come.
              {{.name = "OUT_PROMPT_TABLE_EXTRA_IDS", .type = kUint64, .dims = {-1}},
               {.name = "PIXEL_VALUES", .type = kFp16, .dims = {-1, -1, -1, -1}},
               {.name = "ASPECT_RATIO_IDS", .type = kInt64, .dims = {-1}},
               {.name = "ASPECT_RATIO_MASK", .type = kInt64, .dims = {-1, -1}},
               {.name = "CROSS_ATTENTION_MASK", .type = kInt64, .dims = {-1, -1, -1}},
               {.name = "IMAGE_SIZES", .type = kInt64, .dims = {-1, 2}},
               {.name = "IS_VIDEO_INPUT", .type = kBool, .dims = {1}},
               {.name = "ATTENTION_MASK", .type = kInt64, .dims = {-1}},
               {.name = "IMAGE_GRID_THW", .type = kInt64, .dims = {3}},
               {.name = "VISION_INPUT_ID", .type = kInt32, .dims = {-1}}}));
  return *outputs;
}

constexpr LayoutParameter kParameters[] = {
    {"tokenizer_dir", true},      {"gpt_model_path", true}, {"engine_dir", true},
    {"add_special_tokens", true}, {"tokenizer_type", true}, {"multimodal_model_path", false},
    {"max_num_images", false},    {"hf_model_path", false}};

constexpr const char* kUnavailable[] = {"IMAGE",       "DECODER_QUERY", "PROMPT_TABLE_EXTRA_ID",
                                        "IMAGE_BYTES", "IMAGE_URL",     "IMAGES",
                                        "VIDEO_BYTES"};

// One row of a batch, in token ids.
struct Encoded {
  std::vector<int32_t> ids;
  Words bad_words;
  Words stop_words;
  std::vector<float> bias;
  int32_t output_len = 0;
  int32_t end_id = 0;
  int32_t pad_id = 0;
};

// The rows as one tensor [rows, longest]: what is missing is `padding`.
template <typename T>
void AddPadded(InferResponse& response, const char* name, DataType type,
               const std::vector<std::vector<T>>& rows, const std::vector<T>& padding) {
  size_t longest = 0;
  for (const auto& row : rows) longest = std::max(longest, row.size());
  std::vector<T> values;
  for (size_t i = 0; i < rows.size(); ++i) {
    values.insert(values.end(), rows[i].begin(), rows[i].end());
    values.resize((i + 1) * longest, padding[i]);
  }
  response.outputs.push_back(MakeTensorOf<T>(name, type,
                                             {std::ssize(rows), static_cast<int64_t>(longest)},
                                             std::span(std::as_const(values))));
}

void AddScalars(InferResponse& response, const char* name, const std::vector<int32_t>& values) {
  response.outputs.push_back(
      MakeTensorOf<int32_t>(name, DataType::kInt32, {std::ssize(values), 1}, std::span(values)));
}

// [rows, 2, longest]: the ids of all words in a row, and under them where each word ends.
void AddWords(InferResponse& response, const char* name, const std::vector<Encoded>& rows,
              Words Encoded::*words, bool given) {
  std::vector<std::vector<int32_t>> ids(rows.size());
  std::vector<std::vector<int32_t>> ends(rows.size());
  size_t longest = given ? 1 : 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    for (const std::vector<TokenId>& word : rows[i].*words) {
      ids[i].insert(ids[i].end(), word.begin(), word.end());
      ends[i].push_back(static_cast<int32_t>(ids[i].size()));
    }
    longest = std::max(longest, ids[i].size());
  }
  std::vector<int32_t> values;
  for (size_t i = 0; i < rows.size(); ++i) {
    values.insert(values.end(), ids[i].begin(), ids[i].end());
    values.resize((2 * i + 1) * longest, 0);
    values.insert(values.end(), ends[i].begin(), ends[i].end());
    values.resize((2 * i + 2) * longest, -1);
  }
  response.outputs.push_back(MakeTensorOf<int32_t>(
      name, DataType::kInt32, {std::ssize(rows), 2, static_cast<int64_t>(longest)},
      std::span(std::as_const(values))));
}

class PreprocessingModel : public BackendModel {
 public:
  PreprocessingModel(std::shared_ptr<const Tokenizer> tokenizer, bool add_special_tokens,
                     bool batched)
      : tokenizer_(std::move(tokenizer)),
        add_special_tokens_(add_special_tokens),
        batched_(batched),
        end_id_(tokenizer_->eos_id().value_or(-1)),
        pad_id_(tokenizer_->pad_id().value_or(end_id_)) {}

  Style style() const override { return Style::kContinuous; }

  void Execute(Execution& execution) override {
    for (const auto& call : execution.calls()) {
      StatusOr<InferResponse> response = Encode(call->request());
      if (response.ok()) {
        call->Respond(std::move(*response));
      } else {
        call->Fail(response.status());
      }
    }
  }

 private:
  StatusOr<Words> ReadWords(const InputRow& row, const char* name) const {
    const Tensor* tensor = FindTensor(row, name);
    if (tensor == nullptr) return Words();
    std::vector<std::string> words;
    TRIREME_RETURN_IF_ERROR(ReadTensor(*tensor, words));
    return generate::EncodeWords(name, words, *tokenizer_);
  }

  StatusOr<std::vector<float>> ReadBias(const InputRow& row) const {
    GenerateRequest request;
    std::vector<std::string> words;
    std::vector<float> weights;
    const Tensor* word_tensor = FindTensor(row, "EMBEDDING_BIAS_WORDS");
    const Tensor* weight_tensor = FindTensor(row, "EMBEDDING_BIAS_WEIGHTS");
    if (word_tensor != nullptr) TRIREME_RETURN_IF_ERROR(ReadTensor(*word_tensor, words));
    if (weight_tensor != nullptr) TRIREME_RETURN_IF_ERROR(ReadTensor(*weight_tensor, weights));
    if (words.size() != weights.size()) {
      return InvalidArgument("embedding_bias_words has {} entries, embedding_bias_weights {}",
                             words.size(), weights.size());
    }
    for (size_t i = 0; i < words.size(); ++i) {
      request.embedding_bias_words.emplace_back(words[i], weights[i]);
    }
    return generate::MergeBias(request, *tokenizer_, tokenizer_->vocab_size());
  }

  StatusOr<Encoded> EncodeRow(const InputRow& row) const {
    for (const char* name : kUnavailable) {
      const Tensor* given = FindTensor(row, name);
      if (given == nullptr || given->data.empty()) continue;
      return Unimplemented("'{}' belongs to a feature that does not exist yet", name);
    }
    Encoded encoded;
    GenerateRequest prompt;
    prompt.add_special_tokens = add_special_tokens_;
    TRIREME_RETURN_IF_ERROR(ReadText(*FindTensor(row, "QUERY"), prompt.prompt.emplace()));
    TRIREME_ASSIGN_OR_RETURN(encoded.ids, generate::EncodePrompt(prompt, *tokenizer_, nullptr));
    TRIREME_RETURN_IF_ERROR(ReadTensor(*FindTensor(row, "REQUEST_OUTPUT_LEN"), encoded.output_len));
    TRIREME_ASSIGN_OR_RETURN(encoded.bad_words, ReadWords(row, "BAD_WORDS_DICT"));
    TRIREME_ASSIGN_OR_RETURN(encoded.stop_words, ReadWords(row, "STOP_WORDS_DICT"));
    TRIREME_ASSIGN_OR_RETURN(encoded.bias, ReadBias(row));
    encoded.end_id = end_id_;
    encoded.pad_id = pad_id_;
    if (const Tensor* id = FindTensor(row, "END_ID")) {
      TRIREME_RETURN_IF_ERROR(ReadTensor(*id, encoded.end_id));
    }
    if (const Tensor* id = FindTensor(row, "PAD_ID")) {
      TRIREME_RETURN_IF_ERROR(ReadTensor(*id, encoded.pad_id));
    }
    return encoded;
  }

  StatusOr<InferResponse> Encode(const InferRequest& request) const {
    TRIREME_ASSIGN_OR_RETURN(const auto rows, SplitRows(request, batched_));
    std::vector<Encoded> encoded;
    for (const InputRow& row : rows) {
      TRIREME_ASSIGN_OR_RETURN(encoded.emplace_back(), EncodeRow(row));
    }
    InferResponse response;
    std::vector<std::vector<int32_t>> ids;
    std::vector<std::vector<float>> bias;
    std::vector<int32_t> lengths, output_lens, end_ids, pad_ids;
    for (const Encoded& row : encoded) {
      ids.push_back(row.ids);
      bias.push_back(row.bias);
      lengths.push_back(static_cast<int32_t>(row.ids.size()));
      output_lens.push_back(row.output_len);
      end_ids.push_back(row.end_id);
      pad_ids.push_back(row.pad_id);
    }
    AddPadded(response, "INPUT_ID", DataType::kInt32, ids, pad_ids);
    AddPadded(response, "EMBEDDING_BIAS", DataType::kFp32, bias,
              std::vector<float>(bias.size(), 0.0f));
    AddScalars(response, "REQUEST_INPUT_LEN", lengths);
    AddScalars(response, "DECODER_INPUT_ID", pad_ids);
    AddScalars(response, "REQUEST_DECODER_INPUT_LEN", std::vector<int32_t>(rows.size(), 1));
    AddScalars(response, "REQUEST_OUTPUT_LEN", output_lens);
    AddScalars(response, "OUT_END_ID", end_ids);
    AddScalars(response, "OUT_PAD_ID", pad_ids);
    AddWords(response, "BAD_WORDS_IDS", encoded, &Encoded::bad_words,
             request.FindInput("BAD_WORDS_DICT") != nullptr);
    AddWords(response, "STOP_WORDS_IDS", encoded, &Encoded::stop_words,
             request.FindInput("STOP_WORDS_DICT") != nullptr);
    if (!batched_) {
      for (Tensor& output : response.outputs) output.shape.erase(output.shape.begin());
    }
    return response;
  }

  const std::shared_ptr<const Tokenizer> tokenizer_;
  const bool add_special_tokens_;
  const bool batched_;
  const int32_t end_id_;
  const int32_t pad_id_;
};

class PreprocessingBackend : public Backend {
 public:
  Status Complete(const CompletionContext& context, ModelConfig& config) const override {
    if (config.inputs.empty() && config.outputs.empty()) {
      config.inputs = Inputs();
      config.outputs = Outputs();
    }
    config.dynamic_batching.reset();  // nothing waits here
    return OkStatus();
  }

  StatusOr<std::unique_ptr<BackendModel>> Load(const BackendContext& context) const override {
    TRIREME_RETURN_IF_ERROR(CheckLayoutConfig(context.config, kParameters, Inputs(), Outputs()));
    for (const char* name : {"QUERY", "REQUEST_OUTPUT_LEN"}) {
      if (context.config.FindInput(name) == nullptr) {
        return InvalidArgument("model '{}' does not declare input '{}'", context.config.name, name);
      }
    }
    TRIREME_ASSIGN_OR_RETURN(auto tokenizer, LoadLayoutTokenizer(context));
    TRIREME_ASSIGN_OR_RETURN(const bool add_special_tokens,
                             FlagParameter(context.config, "add_special_tokens", true));
    return std::unique_ptr<BackendModel>(std::make_unique<PreprocessingModel>(
        std::move(tokenizer), add_special_tokens, context.config.max_batch_size > 0));
  }
};

}  // namespace

std::shared_ptr<const Backend> MakePreprocessingBackend() {
  return std::make_shared<PreprocessingBackend>();
}

}  // namespace trireme::server
