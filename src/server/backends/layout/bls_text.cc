// SPDX-License-Identifier: Apache-2.0
#include "server/backends/layout/bls_text.h"

#include <cstring>

#include "base/status.h"
#include "server/backends/llm/read_tensor.h"
#include "server/core/tensor_rows.h"

namespace trireme::server {
namespace {

// The value of an index tensor, 0 when the response has none.
int32_t IndexOf(const InferResponse& response, std::string_view name) {
  for (const Tensor& output : response.outputs) {
    int32_t value = 0;
    if (output.name != name || output.data.size() < sizeof(value)) continue;
    std::memcpy(&value, output.data.data(), sizeof(value));
    return value;
  }
  return 0;
}

}  // namespace

StatusOr<BlsText> BlsText::Make(const InferRequest& request, bool batched, bool accumulates) {
  TRIREME_ASSIGN_OR_RETURN(const auto rows, SplitRows(request, batched));
  BlsText texts;
  texts.accumulates_ = accumulates;
  texts.num_sequences_ = 0;
  for (const InputRow& row : rows) {
    TRIREME_RETURN_IF_ERROR(
        ReadText(*FindTensor(row, "text_input"), texts.prompts_.emplace_back()));
    int32_t max_tokens = 0;
    TRIREME_RETURN_IF_ERROR(ReadTensor(*FindTensor(row, "max_tokens"), max_tokens));
    if (max_tokens <= 0) return InvalidArgument("max_tokens must be a single value > 0");
    std::vector<std::string>& words = texts.stop_words_.emplace_back();
    if (const Tensor* given = FindTensor(row, "stop_words")) {
      TRIREME_RETURN_IF_ERROR(ReadTensor(*given, words));
    }
    std::erase(words, "");
    texts.has_stop_words_ |= !words.empty();
    int32_t sequences = 1;
    if (const Tensor* given = FindTensor(row, "num_return_sequences")) {
      TRIREME_RETURN_IF_ERROR(ReadTensor(*given, sequences));
    }
    texts.num_sequences_ += sequences;
  }
  return texts;
}

BlsText::Sequence& BlsText::SequenceOf(size_t row, int sequence) {
  const auto [entry, added] = sequences_.try_emplace({row, sequence}, StopMatcher({}));
  if (added) entry->second.stops = StopMatcher(stop_words_[row]);
  return entry->second;
}

std::string BlsText::Take(Sequence& sequence, std::string_view piece, bool is_last) {
  std::string text;
  if (!sequence.stopped) {
    if (sequence.stops.empty()) {
      text = piece;
    } else {
      sequence.stopped = sequence.stops.Append(piece, text) >= 0;
      if (sequence.stopped) ++num_stopped_;
    }
    if (is_last && !sequence.stopped && !sequence.stops.empty()) sequence.stops.Finish(text);
  }
  sequence.ended |= is_last;
  if (!accumulates_) return text;
  sequence.text += text;
  return sequence.text;
}

Status BlsText::Rewrite(InferResponse& response, bool streaming) {
  if (!has_stop_words_ && !accumulates_) return OkStatus();
  for (Tensor& output : response.outputs) {
    if (output.name != "text_output") continue;
    TRIREME_ASSIGN_OR_RETURN(const auto texts, BytesElements(output.data));
    const auto row = static_cast<size_t>(IndexOf(response, "batch_index"));
    const int sequence = IndexOf(response, "sequence_index");
    // Of a gathered response, all sequences of all rows.
    const size_t per_row = std::max<size_t>(1, texts.size() / stop_words_.size());
    std::string rewritten;
    for (size_t i = 0; i < texts.size(); ++i) {
      const bool single = texts.size() == 1;
      const size_t of_row = single ? row : i / per_row;
      if (of_row >= stop_words_.size()) return Internal("batch_index {} of a response", of_row);
      const int of_sequence = single ? sequence : static_cast<int>(i % per_row);
      Sequence& state = SequenceOf(of_row, of_sequence);
      std::string_view text = texts[i];
      std::string kept;
      // A whole text may begin with the prompt, in which no stop word counts.
      if (!streaming && text.starts_with(prompts_[of_row])) {
        kept = prompts_[of_row];
        text.remove_prefix(kept.size());
      }
      AppendBytesElement(rewritten, kept + Take(state, text, output.ends_stream || !streaming));
    }
    output = MakeTensor(output.name, output.type, output.shape, std::move(rewritten));
  }
  return OkStatus();
}

std::vector<InferResponse> BlsText::Flush() {
  std::vector<InferResponse> responses;
  for (auto& [place, sequence] : sequences_) {
    if (sequence.stopped || sequence.ended) continue;
    const size_t before = sequence.text.size();
    const std::string text = Take(sequence, "", /*is_last=*/true);
    if (text.size() == (accumulates_ ? before : 0)) continue;
    std::string element;
    AppendBytesElement(element, text);
    InferResponse& response = responses.emplace_back();
    response.outputs.push_back(
        MakeTensor("text_output", DataType::kBytes, {1}, std::move(element)));
    const int32_t row = static_cast<int32_t>(place.first);
    if (stop_words_.size() > 1) {
      response.outputs.push_back(
          MakeTensorOf<int32_t>("batch_index", DataType::kInt32, {1, 1}, std::span(&row, 1)));
    }
    if (std::cmp_greater(num_sequences_, stop_words_.size())) {
      response.outputs.push_back(MakeTensorOf<int32_t>("sequence_index", DataType::kInt32, {1, 1},
                                                       std::span(&place.second, 1)));
    }
  }
  return responses;
}

}  // namespace trireme::server
