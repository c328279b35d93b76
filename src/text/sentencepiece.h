// SPDX-License-Identifier: Apache-2.0
// Reading of SentencePiece model files. No state.
#pragma once

#include <string_view>

#include "base/status.h"
#include "text/pipeline.h"

namespace trireme {

struct SentencePieceOptions {
  // Whether a text behind a special token gets a space put before it like the first one.
  bool prefix_each_part = true;
};

// Whether the bytes look like a SentencePiece model.
bool IsSentencePiece(std::string_view file);

// Fills all of the parts; bos, eos and pad are those of the model. Control pieces are recognised
// in a text when they are made added tokens later.
StatusOr<TokenizerParts> ParseSentencePiece(std::string_view file, SentencePieceOptions options);

}  // namespace trireme
