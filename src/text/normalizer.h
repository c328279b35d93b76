// SPDX-License-Identifier: Apache-2.0
// Text before it is cut: normal forms, case, replaced characters. Immutable, thread-safe.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace trireme {

class Normalizer {
 public:
  virtual ~Normalizer() = default;
  // Replaces `text`, which may view `storage`, by its normal form; what changes is kept in
  // `storage`. `at_start`: the text begins where the user's text began. Valid UTF-8 in and out.
  virtual Status Apply(std::string_view& text, std::string& storage, bool at_start) const = 0;
};

// From a "normalizer" section that is not null.
StatusOr<std::unique_ptr<Normalizer>> MakeNormalizer(const nlohmann::json& section);

// The compiled character map of SentencePiece: a double-array trie from strings to replacements.
class CharsMap {
 public:
  static StatusOr<CharsMap> Parse(std::string_view blob);

  struct Found {
    size_t size = 0;  // bytes of the key; 0: none
    std::string_view replacement;
  };
  Found Longest(std::string_view text) const { return Search(text, true); }
  Found Shortest(std::string_view text) const { return Search(text, false); }
  bool empty() const { return units_.empty(); }

 private:
  Found Search(std::string_view text, bool longest) const;
  std::vector<uint32_t> units_;
  std::string replacements_;  // each ends with '\0'
};

}  // namespace trireme
