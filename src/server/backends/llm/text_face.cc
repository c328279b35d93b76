// SPDX-License-Identifier: Apache-2.0
// Texts in, texts out: the tensors of the reference's ensemble.
#include "base/status.h"
#include "server/backends/llm/llm_fields.h"
#include "server/backends/llm/piece_tensors.h"

namespace trireme::server {
namespace {

class TextFace : public LlmFace {
 public:
  explicit TextFace(const LlmFaceOptions& options)
      : tensors_(options), exclude_input_by_default_(options.exclude_input_by_default) {}

  bool makes_text() const override { return true; }

  StatusOr<LlmRequest> ToRequest(const InputRow& row, const InferRequest& request) const override {
    return FillLlmRequest(row, request, /*text_names=*/true, exclude_input_by_default_);
  }

  InferResponse ToResponse(std::span<const LlmPiece> pieces, const LlmBatch& batch) const override {
    InferResponse response;
    const PieceGrid grid = ArrangePieces(pieces, batch);
    std::string texts;
    for (const LlmPiece* piece : grid.pieces) {
      AppendBytesElement(texts, piece == nullptr ? std::string_view() : piece->output.text);
    }
    tensors_.Append(response, "text_output", DataType::kBytes, {grid.num_rows, grid.num_sequences},
                    std::move(texts));
    tensors_.AppendCommon(pieces, batch, response);
    return response;
  }

 private:
  const PieceTensors tensors_;
  const bool exclude_input_by_default_;
};

}  // namespace

std::unique_ptr<LlmFace> MakeTextFace(const LlmFaceOptions& options) {
  return std::make_unique<TextFace>(options);
}

}  // namespace trireme::server
