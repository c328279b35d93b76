// SPDX-License-Identifier: Apache-2.0
// The one Tokenizer: added tokens, normalizer, pre-tokenizer, model, post-processor, decoder.
// Loaders of the various file layouts fill TokenizerParts. Immutable, thread-safe.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "text/added_tokens.h"
#include "text/decoder.h"
#include "text/model.h"
#include "text/normalizer.h"
#include "text/pre_tokenizer.h"
#include "trireme/tokenizer.h"

namespace trireme {

// Where the parts come from; decides what holds when no file says.
enum class Layout { kTokenizerJson, kVocabFiles, kSentencePiece, kTiktoken };

struct TokenizerParts {
  Layout layout = Layout::kTokenizerJson;
  std::unique_ptr<Model> model;
  std::unique_ptr<Normalizer> normalizer;       // may be null
  std::unique_ptr<PreTokenizer> pre_tokenizer;  // may be null
  std::unique_ptr<Decoder> decoder;             // not compiled yet
  AddedTokens added;                            // not finished yet
  // Ids put before and behind a text when special tokens are wanted.
  std::vector<int32_t> prefix_ids, suffix_ids;
  std::optional<int32_t> bos_id, eos_id, pad_id;
  std::vector<int32_t> end_ids;  // besides eos_id
  EncodeLimits limits;
  // Model tokens that are special although no added token says so (control pieces).
  std::vector<int32_t> control_ids;
  // Tokens that decode to something else than their spelling says.
  std::unordered_map<int32_t, std::string> surfaces;
  // For byte-level models: sets the bytes of a model id and returns true, or returns false.
  std::function<bool(int32_t, std::string_view&)> token_bytes;
};

StatusOr<std::unique_ptr<Tokenizer>> MakePipeline(TokenizerParts parts);

}  // namespace trireme
