// SPDX-License-Identifier: Apache-2.0
// How the tensors of a model's configuration stand for generations: texts, token ids, logits. A face
// translates; it runs nothing. Immutable, thread-safe.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "server/core/tensor_rows.h"
#include "server/repository/model_config.h"
#include "trireme/generator.h"

namespace trireme::server {

struct LlmRequest {
  GenerateRequest generate;
  bool return_num_input_tokens = false;
  bool return_num_output_tokens = false;
  bool return_finish_reason = false;  // vLLM's tensors
};

// An output of one sequence of one row.
struct LlmPiece {
  size_t row = 0;
  GenerateOutput output;
  // Of a streamed sequence, else null. Shared: with the tensors of its pieces.
  std::shared_ptr<PieceStream> stream;
};

// What the pieces of a response belong to.
struct LlmBatch {
  std::vector<LlmRequest> requests;  // one for each row
  // One response holds every sequence of every row, in order; else each piece is a response.
  bool gather = false;
};

class LlmFace {
 public:
  virtual ~LlmFace() = default;
  // Whether sequences become text; else they stay token ids and no tokenizer is needed.
  virtual bool makes_text() const = 0;
  virtual StatusOr<LlmRequest> ToRequest(const InputRow& row,
                                         const InferRequest& request) const = 0;
  virtual InferResponse ToResponse(std::span<const LlmPiece> pieces,
                                   const LlmBatch& batch) const = 0;
};

// What a face must know of its model.
struct LlmFaceOptions {
  const ModelConfig& config;
  int vocab_size = 0;
  bool exclude_input_by_default = false;
  // Ids that end a generation, of the engine's own tokenizer; the end_id of a request that is one of
  // them stands for all.
  std::vector<TokenId> end_ids;
};

// Each is a file beside this one.
enum class LlmFaceKind { kText, kTokens, kLogits, kVllm };
// The kind whose tensors the configuration declares; text when it declares none. INVALID_ARGUMENT
// names a tensor that the kind does not have, or has as another type.
StatusOr<LlmFaceKind> ChooseLlmFace(const ModelConfig& config);
std::unique_ptr<LlmFace> MakeLlmFace(LlmFaceKind kind, const LlmFaceOptions& options);

std::unique_ptr<LlmFace> MakeTextFace(const LlmFaceOptions& options);
std::unique_ptr<LlmFace> MakeTokenFace(const LlmFaceOptions& options);
std::unique_ptr<LlmFace> MakeLogitsFace(const LlmFaceOptions& options);
std::unique_ptr<LlmFace> MakeVllmFace(const LlmFaceOptions& options);

// The tensors of a kind, as a configuration that declares none gets them.
std::vector<TensorConfig> LlmInputs(LlmFaceKind kind);
std::vector<TensorConfig> LlmOutputs(LlmFaceKind kind);
std::vector<TensorConfig> VllmInputs();
std::vector<TensorConfig> VllmOutputs();

}  // namespace trireme::server
