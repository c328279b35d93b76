// SPDX-License-Identifier: Apache-2.0
// A vocabulary with the rule that cuts words into its tokens. Immutable, thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace trireme {

// A half-open range of bytes of some text.
struct Span {
  uint32_t begin = 0;
  uint32_t end = 0;
};

class Model {
 public:
  virtual ~Model() = default;
  // Appends the ids of each word of `text`, in order. `text` is valid UTF-8, words are not empty.
  virtual Status Encode(std::string_view text, std::span<const Span> words,
                        std::vector<int32_t>& ids) const = 0;
  // Tokens are spelled here as in the file.
  virtual std::optional<int32_t> TokenToId(std::string_view token) const = 0;
  virtual std::string IdToToken(int32_t id) const = 0;  // "" when out of range
  virtual int32_t id_limit() const = 0;                 // largest id + 1
  // Whether no token can ever cross a place before the word mark U+2581 (after another
  // character), so that a text may be cut there without changing its ids.
  virtual bool CutsBeforeWordMark() const { return false; }
};

}  // namespace trireme
