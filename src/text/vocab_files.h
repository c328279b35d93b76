// SPDX-License-Identifier: Apache-2.0
// Reading of the layouts that hold a vocabulary and leave the rest to code: vocab.json with
// merges.txt, tiktoken files, vocab.txt. No state.
#pragma once

#include <string_view>

#include "base/status.h"
#include "text/pipeline.h"
#include "text/tokenizer_config.h"
#include "text/vocab.h"

namespace trireme {

// How a byte-level vocabulary without a pattern was cut, told by what its tokens hold: spaces
// before digits, punctuation before letters, endings such as 's, and how long numbers get.
struct CutStyle {
  std::string pattern;
  bool nfc = false;  // readers of this style normalize to NFC
};
CutStyle GuessCutStyle(const Vocab& vocab);

StatusOr<TokenizerParts> ParseVocabAndMerges(std::string_view vocab, std::string_view merges,
                                             const TokenizerConfig& config);

// Lines of a base64 token and its rank, which is also its id.
bool LooksLikeTiktoken(std::string_view file);
StatusOr<TokenizerParts> ParseTiktoken(std::string_view file, const TokenizerConfig& config);

// One WordPiece token a line, its id the number of the line from 0.
StatusOr<TokenizerParts> ParseVocabText(std::string_view file, const TokenizerConfig& config);

}  // namespace trireme
