// SPDX-License-Identifier: Apache-2.0
// Token ids in, token ids out: the tensors of the reference's model tensorrt_llm.
#include <algorithm>

#include "base/status.h"
#include "server/backends/llm/llm_fields.h"
#include "server/backends/llm/piece_tensors.h"

namespace trireme::server {
namespace {

class TokenFace : public LlmFace {
 public:
  explicit TokenFace(const LlmFaceOptions& options)
      : tensors_(options),
        exclude_input_by_default_(options.exclude_input_by_default),
        vocab_size_(options.vocab_size),
        end_ids_(options.end_ids) {}

  bool makes_text() const override { return false; }

  StatusOr<LlmRequest> ToRequest(const InputRow& row, const InferRequest& request) const override {
    TRIREME_ASSIGN_OR_RETURN(LlmRequest filled, FillLlmRequest(row, request, /*text_names=*/false,
                                                               exclude_input_by_default_));
    GenerateRequest& generate = filled.generate;
    CompleteEndIds(generate);
    // A tokenizer may know fewer ids than the model has rows of logits.
    if (!generate.embedding_bias.empty() &&
        std::cmp_less(generate.embedding_bias.size(), vocab_size_)) {
      generate.embedding_bias.resize(static_cast<size_t>(vocab_size_), 0.0f);
    }
    return filled;
  }

  InferResponse ToResponse(std::span<const LlmPiece> pieces, const LlmBatch& batch) const override {
    InferResponse response;
    const PieceGrid grid = ArrangePieces(pieces, batch);
    size_t longest = 0;
    std::vector<int32_t> lengths;
    for (const LlmPiece* piece : grid.pieces) {
      const size_t length = piece == nullptr ? 0 : piece->output.tokens.size();
      lengths.push_back(static_cast<int32_t>(length));
      longest = std::max(longest, length);
    }
    std::vector<int32_t> ids(grid.pieces.size() * longest, -1);
    for (size_t i = 0; i < grid.pieces.size(); ++i) {
      if (grid.pieces[i] == nullptr) continue;
      std::ranges::copy(grid.pieces[i]->output.tokens,
                        ids.begin() + static_cast<std::ptrdiff_t>(i * longest));
    }
    const auto bytes = [](const std::vector<int32_t>& values) {
      return std::string(reinterpret_cast<const char*>(values.data()),
                         values.size() * sizeof(int32_t));
    };
    tensors_.Append(response, "output_ids", DataType::kInt32,
                    {grid.num_rows, grid.num_sequences, static_cast<int64_t>(longest)}, bytes(ids));
    if (!batch.gather) {
      response.outputs.back().stream = pieces.front().stream;
      response.outputs.back().ends_stream = pieces.front().output.is_sequence_final;
    }
    tensors_.Append(response, "sequence_length", DataType::kInt32,
                    {grid.num_rows, grid.num_sequences}, bytes(lengths));
    tensors_.AppendCommon(pieces, batch, response);
    return response;
  }

 private:
  void CompleteEndIds(GenerateRequest& request) const {
    if (!request.end_ids) {
      request.end_ids.emplace();  // none: as in the reference, a request says what ends it
    } else if (request.end_ids->size() == 1 &&
               std::ranges::count(end_ids_, request.end_ids->front()) > 0) {
      request.end_ids = end_ids_;
    }
  }

  const PieceTensors tensors_;
  const bool exclude_input_by_default_;
  const int vocab_size_;
  const std::vector<TokenId> end_ids_;
};

}  // namespace

std::unique_ptr<LlmFace> MakeTokenFace(const LlmFaceOptions& options) {
  return std::make_unique<TokenFace>(options);
}

}  // namespace trireme::server
