// SPDX-License-Identifier: Apache-2.0
// Token ids in, the logits behind each of them out: a text model without generation.
#include "base/status.h"
#include "server/backends/llm/piece_tensors.h"
#include "server/backends/llm/read_tensor.h"

namespace trireme::server {
namespace {

class LogitsFace : public LlmFace {
 public:
  explicit LogitsFace(const LlmFaceOptions& options)
      : tensors_(options),
        vocab_size_(options.vocab_size),
        type_(options.config.FindOutput("logits")->type) {}

  bool makes_text() const override { return false; }

  StatusOr<LlmRequest> ToRequest(const InputRow& row, const InferRequest& request) const override {
    const Tensor* ids = FindTensor(row, "input_ids");
    if (ids == nullptr) return InvalidArgument("'input_ids' is missing");
    LlmRequest filled;
    TRIREME_RETURN_IF_ERROR(ReadTensor(*ids, filled.generate.prompt_ids));
    filled.generate.max_tokens = 1;  // chosen and dropped: the logits come before
    filled.generate.output.return_context_logits = true;
    filled.generate.end_ids.emplace();
    filled.generate.timeout_ms = request.timeout_ms();
    return filled;
  }

  // The rows of a tensor are of one length.
  InferResponse ToResponse(std::span<const LlmPiece> pieces, const LlmBatch& batch) const override {
    InferResponse response;
    std::string bytes;
    int64_t length = 0;
    const PieceGrid grid = ArrangePieces(pieces, batch);
    for (const LlmPiece* piece : grid.pieces) {
      if (piece == nullptr) continue;
      length = piece->output.num_prompt_tokens;
      bytes += FloatBytes(piece->output.context_logits, type_);
    }
    tensors_.Append(response, "logits", type_, {grid.num_rows, length, vocab_size_},
                    std::move(bytes));
    return response;
  }

 private:
  const PieceTensors tensors_;
  const int vocab_size_;
  const DataType type_;
};

}  // namespace

std::unique_ptr<LlmFace> MakeLogitsFace(const LlmFaceOptions& options) {
  return std::make_unique<LogitsFace>(options);
}

}  // namespace trireme::server
