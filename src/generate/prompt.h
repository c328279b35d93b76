// SPDX-License-Identifier: Apache-2.0
// From what a client wrote to token ids: prompts, messages, words. Pure functions of immutable
// tokenizers and templates; thread-safe.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "trireme/chat_template.h"
#include "trireme/generator.h"
#include "trireme/request.h"
#include "trireme/status.h"
#include "trireme/tokenizer.h"

namespace trireme::generate {

// The tokens of the prompt, the ids or the rendered messages, whichever `request` has.
StatusOr<std::vector<TokenId>> EncodePrompt(const GenerateRequest& request,
                                            const Tokenizer& tokenizer,
                                            const ChatTemplate* chat_template);

// Every way `words` may come out as tokens: as they are, after a space, and as one token of the
// vocabulary that spells them. Without empty words and repetitions.
StatusOr<std::vector<std::vector<TokenId>>> EncodeWords(std::string_view field,
                                                        const std::vector<std::string>& words,
                                                        const Tokenizer& tokenizer);

// embedding_bias, logit_bias and embedding_bias_words as one vector, empty when there is none.
StatusOr<std::vector<float>> MergeBias(const GenerateRequest& request, const Tokenizer& tokenizer,
                                       int vocab_size);

// INVALID_ARGUMENT naming `field` unless `text` is UTF-8.
Status CheckUtf8(std::string_view field, std::string_view text);

}  // namespace trireme::generate
