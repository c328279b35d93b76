// SPDX-License-Identifier: Apache-2.0
// Reading of tokenizer.json. No state.
#pragma once

#include <string_view>

#include "base/status.h"
#include "text/pipeline.h"
#include "text/vocab.h"

namespace trireme {

// The pieces that a tokenizer.json describes; bos, eos and the like are not in it.
StatusOr<TokenizerParts> ParseTokenizerJson(std::string_view text);

// An object of tokens and their ids, as in vocab.json.
Status ReadVocab(std::string_view object, Vocab& vocab);

}  // namespace trireme
