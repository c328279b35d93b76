// SPDX-License-Identifier: Apache-2.0
// The small files beside a vocabulary: tokenizer_config.json, special_tokens_map.json,
// added_tokens.json, generation_config.json. No state.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "text/added_tokens.h"
#include "text/pipeline.h"

namespace trireme {

struct TokenizerConfig {
  // Contents; nullopt where no file says.
  std::optional<std::string> bos_token, eos_token, pad_token, unk_token, cls_token, sep_token;
  std::optional<bool> add_bos_token, add_eos_token, legacy, add_prefix_space, lower_case;
  std::vector<AddedToken> added_tokens;
  std::vector<std::string> additional_special_tokens;
  std::string chat_template;
  // generation_config.json, else config.json.
  std::optional<int32_t> bos_id, pad_id;
  std::vector<int32_t> eos_ids;
};

// Absent files say nothing; a damaged one is an error.
StatusOr<TokenizerConfig> ReadTokenizerConfig(const std::string& dir);

// Adds the tokens of the configuration and decides bos, eos, pad and what goes round a text.
Status ApplyTokenizerConfig(const TokenizerConfig& config, TokenizerParts& parts);

}  // namespace trireme
