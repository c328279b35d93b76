// SPDX-License-Identifier: Apache-2.0
// The inputs of text models, field by field: what each is called where prompts are texts and where
// they are token ids, and what it sets. Pure functions.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "server/backends/llm/llm_face.h"

namespace trireme::server {

// What the fields of one row fill.
struct LlmDraft {
  LlmRequest request;
  std::vector<std::string> bias_words;
  std::vector<float> bias_weights;
  int32_t input_length = -1;  // of the prompt in its padded row; -1: all of it
};

struct LlmField {
  enum Shape { kOne, kList, kPairs, kTable };  // [1], [-1], [2,-1], [-1,-1]
  const char* text_name;                       // null: not a field of text prompts
  const char* token_name;                      // null: not a field of token prompts
  DataType type;
  Shape shape;
  // Null: belongs to a feature that does not exist yet.
  Status (*fill)(LlmDraft& draft, const Tensor& tensor);
  bool required = false;

  Dims dims() const;
};

std::span<const LlmField> LlmFields();

// Reads the fields of a row by their text names or their token names. UNIMPLEMENTED names a field, or
// a parameter of the request, of a feature that does not exist yet.
StatusOr<LlmRequest> FillLlmRequest(const InputRow& row, const InferRequest& from, bool text_names,
                                    bool exclude_input_by_default);

}  // namespace trireme::server
