// SPDX-License-Identifier: Apache-2.0
// Cutting a normalized text into words. PreTokenizers are immutable and thread-safe;
// PreTokenized belongs to one call.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "text/model.h"

namespace trireme {

// A text and the pieces it is cut into, in order, not overlapping. Steps that change characters
// replace the text; what no piece covers is dropped.
struct PreTokenized {
  std::string_view text;
  std::vector<Span> pieces;
  // Whether piece 0 begins where the user's text began.
  bool at_start = false;
  std::string storage;  // of `text`, once a step replaced it

  std::string_view Piece(size_t i) const {
    return text.substr(pieces[i].begin, pieces[i].end - pieces[i].begin);
  }
  // Replaces text and pieces by ones that a step built.
  void Replace(std::string new_text, std::vector<Span> new_pieces) {
    storage = std::move(new_text);
    text = storage;
    pieces = std::move(new_pieces);
  }
};

class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  virtual Status Apply(PreTokenized& p) const = 0;
};

// From a "pre_tokenizer" section that is not null. `bytes_follow` tells whether the model takes
// bytes as they are: then the last ByteLevel step maps no characters, it only cuts.
StatusOr<std::unique_ptr<PreTokenizer>> MakePreTokenizer(const nlohmann::json& section,
                                                         bool bytes_follow);

// Whether the section ends with a ByteLevel step, so that a model over bytes can follow.
bool EndsWithByteLevel(const nlohmann::json& section);

// Cuts before each word mark U+2581 that follows another character.
std::unique_ptr<PreTokenizer> MakeWordMarkCutter();

}  // namespace trireme
