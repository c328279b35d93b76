// SPDX-License-Identifier: Apache-2.0
// What the faces of text models have in common: the pieces of a response laid out in a grid of rows
// and sequences, and the outputs that do not depend on whether sequences are texts. Pure functions.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "server/backends/llm/llm_face.h"

namespace trireme::server {

// [rows, sequences]; a place no piece came for is null.
struct PieceGrid {
  int64_t num_rows = 1;
  int64_t num_sequences = 1;
  std::vector<const LlmPiece*> pieces;  // row-major
};
PieceGrid ArrangePieces(std::span<const LlmPiece> pieces, const LlmBatch& batch);

class PieceTensors {
 public:
  explicit PieceTensors(const LlmFaceOptions& options)
      : batched_(options.config.max_batch_size > 0),
        vocab_size_(options.vocab_size),
        context_logits_(TypeOf(options.config, "context_logits")),
        generation_logits_(TypeOf(options.config, "generation_logits")) {}

  // Log probabilities, logits, counts and indices, as the requests ask for them.
  void AppendCommon(std::span<const LlmPiece> pieces, const LlmBatch& batch,
                    InferResponse& response) const;
  // With the leading dimension of a batch; models that do not batch lose it.
  void Append(InferResponse& response, const char* name, DataType type, Dims shape,
              std::string bytes) const;

 private:
  static DataType TypeOf(const ModelConfig& config, std::string_view output);
  void AppendLogProbs(const PieceGrid& grid, InferResponse& response) const;
  void AppendLogits(const PieceGrid& grid, bool context, InferResponse& response) const;
  void AppendCount(const PieceGrid& grid, const char* name, int GenerateOutput::*count,
                   InferResponse& response) const;
  void AppendIndex(const char* name, int64_t index, InferResponse& response) const;

  const bool batched_;
  const int vocab_size_;
  const DataType context_logits_;
  const DataType generation_logits_;
};

// The bytes of float32 values as `type`: FP32, FP16 or BF16.
std::string FloatBytes(std::span<const float> values, DataType type);

}  // namespace trireme::server
