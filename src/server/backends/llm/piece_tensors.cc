// SPDX-License-Identifier: Apache-2.0
#include "server/backends/llm/piece_tensors.h"

#include <algorithm>

#include "tensor/float_formats.h"

namespace trireme::server {
namespace {

template <typename T>
std::string BytesOf(std::span<const T> values) {
  return {reinterpret_cast<const char*>(values.data()), values.size_bytes()};
}

// [places, longest, width] from one list of rows for each place; what is missing is `padding`.
std::vector<float> Pad(const std::vector<std::span<const float>>& lists, size_t longest,
                       float padding) {
  std::vector<float> padded;
  padded.reserve(lists.size() * longest);
  for (const std::span<const float> list : lists) {
    padded.insert(padded.end(), list.begin(), list.end());
    padded.resize(padded.size() + longest - list.size(), padding);
  }
  return padded;
}

size_t Longest(const std::vector<std::span<const float>>& lists) {
  size_t longest = 0;
  for (const auto& list : lists) longest = std::max(longest, list.size());
  return longest;
}

}  // namespace

std::string FloatBytes(std::span<const float> values, DataType type) {
  if (type == DataType::kFp32) return BytesOf(values);
  std::vector<uint16_t> halves;
  halves.reserve(values.size());
  for (const float value : values) {
    halves.push_back(type == DataType::kFp16 ? ToFloat16(value).bits : ToBFloat16(value).bits);
  }
  return BytesOf(std::span<const uint16_t>(halves));
}

PieceGrid ArrangePieces(std::span<const LlmPiece> pieces, const LlmBatch& batch) {
  if (!batch.gather) return {.pieces = {&pieces.front()}};
  PieceGrid grid;
  grid.num_rows = std::ssize(batch.requests);
  for (const LlmRequest& request : batch.requests) {
    grid.num_sequences =
        std::max<int64_t>(grid.num_sequences, request.generate.sampling.num_return_sequences);
  }
  grid.pieces.resize(static_cast<size_t>(grid.num_rows * grid.num_sequences));
  for (const LlmPiece& piece : pieces) {
    const int64_t place =
        static_cast<int64_t>(piece.row) * grid.num_sequences + piece.output.sequence_index;
    grid.pieces.at(static_cast<size_t>(place)) = &piece;
  }
  return grid;
}

DataType PieceTensors::TypeOf(const ModelConfig& config, std::string_view output) {
  const TensorConfig* declared = config.FindOutput(output);
  return declared == nullptr ? DataType::kFp32 : declared->type;
}

void PieceTensors::Append(InferResponse& response, const char* name, DataType type, Dims shape,
                          std::string bytes) const {
  if (!batched_) shape.erase(shape.begin());
  response.outputs.push_back(MakeTensor(name, type, std::move(shape), std::move(bytes)));
}

void PieceTensors::AppendLogProbs(const PieceGrid& grid, InferResponse& response) const {
  std::vector<float> cumulative;
  std::vector<std::span<const float>> lists;
  for (const LlmPiece* piece : grid.pieces) {
    cumulative.push_back(piece == nullptr ? 0.0f : piece->output.cum_log_prob);
    lists.push_back(piece == nullptr ? std::span<const float>() : piece->output.log_probs);
  }
  const size_t longest = Longest(lists);
  Append(response, "cum_log_probs", DataType::kFp32, {grid.num_rows, grid.num_sequences},
         BytesOf(std::span<const float>(cumulative)));
  Append(response, "output_log_probs", DataType::kFp32,
         {grid.num_rows, grid.num_sequences, static_cast<int64_t>(longest)},
         BytesOf(std::span<const float>(Pad(lists, longest, -1.0f))));
}

// Context logits are those of a row's first sequence: the prompt is one.
void PieceTensors::AppendLogits(const PieceGrid& grid, bool context,
                                InferResponse& response) const {
  std::vector<std::span<const float>> lists;
  const int64_t step = context ? grid.num_sequences : 1;
  for (size_t i = 0; i < grid.pieces.size(); i += static_cast<size_t>(step)) {
    const LlmPiece* piece = grid.pieces[i];
    if (piece == nullptr) {
      lists.emplace_back();
    } else {
      lists.push_back(context ? piece->output.context_logits : piece->output.generation_logits);
    }
  }
  const size_t longest = Longest(lists);
  // Of a stream, only the piece that has them.
  if (longest == 0) return;
  const int64_t length = static_cast<int64_t>(longest) / std::max(1, vocab_size_);
  const DataType type = context ? context_logits_ : generation_logits_;
  Dims shape = {grid.num_rows, length, vocab_size_};
  if (!context) shape.insert(shape.begin() + 1, grid.num_sequences);
  Append(response, context ? "context_logits" : "generation_logits", type, std::move(shape),
         FloatBytes(Pad(lists, longest, 0.0f), type));
}

void PieceTensors::AppendCount(const PieceGrid& grid, const char* name, int GenerateOutput::*count,
                               InferResponse& response) const {
  std::vector<int32_t> counts(static_cast<size_t>(grid.num_rows));
  for (size_t i = 0; i < grid.pieces.size(); ++i) {
    if (grid.pieces[i] == nullptr) continue;
    int32_t& sum = counts[i / static_cast<size_t>(grid.num_sequences)];
    const int32_t value = grid.pieces[i]->output.*count;
    // A row has one prompt and as many outputs as sequences.
    sum = count == &GenerateOutput::num_prompt_tokens ? value : sum + value;
  }
  Append(response, name, DataType::kInt32, {grid.num_rows, 1},
         BytesOf(std::span<const int32_t>(counts)));
}

void PieceTensors::AppendIndex(const char* name, int64_t index, InferResponse& response) const {
  const auto value = static_cast<int32_t>(index);
  Append(response, name, DataType::kInt32, {1, 1}, BytesOf(std::span<const int32_t>(&value, 1)));
}

void PieceTensors::AppendCommon(std::span<const LlmPiece> pieces, const LlmBatch& batch,
                                InferResponse& response) const {
  const PieceGrid grid = ArrangePieces(pieces, batch);
  const auto any = [&](auto wanted) {
    if (!batch.gather) return wanted(batch.requests[pieces.front().row]);
    return std::any_of(batch.requests.begin(), batch.requests.end(), wanted);
  };
  if (any([](const LlmRequest& r) { return r.generate.output.return_log_probs; })) {
    AppendLogProbs(grid, response);
  }
  if (any([](const LlmRequest& r) { return r.generate.output.return_context_logits; })) {
    AppendLogits(grid, /*context=*/true, response);
  }
  if (any([](const LlmRequest& r) { return r.generate.output.return_generation_logits; })) {
    AppendLogits(grid, /*context=*/false, response);
  }
  if (any([](const LlmRequest& r) { return r.return_num_input_tokens; })) {
    AppendCount(grid, "num_input_tokens", &GenerateOutput::num_prompt_tokens, response);
  }
  if (any([](const LlmRequest& r) { return r.return_num_output_tokens; })) {
    AppendCount(grid, "num_output_tokens", &GenerateOutput::num_output_tokens, response);
  }
  if (batch.gather) return;
  const LlmPiece& piece = pieces.front();
  if (batch.requests.size() > 1) {
    AppendIndex("batch_index", static_cast<int64_t>(piece.row), response);
  }
  if (batch.requests[piece.row].generate.sampling.num_return_sequences > 1) {
    AppendIndex("sequence_index", piece.output.sequence_index, response);
  }
}

}  // namespace trireme::server
