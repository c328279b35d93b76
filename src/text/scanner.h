// SPDX-License-Identifier: Apache-2.0
// Hand-written scanners for the published family of pre-tokenizer patterns: contractions,
// letters with one character before them, numbers, other characters, white space. Immutable,
// thread-safe, linear in the text.
//
// A pattern is recognised by its text, alternative by alternative, so any combination of the
// published alternatives gets a scanner; what is not recognised goes to Regex.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "text/model.h"

namespace trireme {

struct ScannerStyle {
  enum class Contractions { kNone, kLowerCase, kAnyCase };
  enum class Letters {
    kSpaceBefore,  // ` ?\p{L}+`
    kAnyBefore,    // `[^\r\n\p{L}\p{N}]?\p{L}+`
    kCased,        // `[^\r\n\p{L}\p{N}]?` upper* lower+ or upper+ lower*, each with contraction
  };
  enum class Behind { kNothing, kLineEnds, kLineEndsAndSlashes };

  Contractions contractions = Contractions::kNone;  // of its own, or behind cased letters
  Letters letters = Letters::kSpaceBefore;
  bool space_before_number = false;
  uint32_t number_length = 0;  // most digits in one piece; 0: any
  Behind behind_other = Behind::kNothing;
  bool lines = false;  // `\s*[\r\n]+` goes before other white space
};

// nullopt when the pattern is not of the family.
std::optional<ScannerStyle> RecognizeScanner(std::string_view pattern);

// Appends the matches, which cover all of `text` (valid UTF-8).
void Scan(const ScannerStyle& style, std::string_view text, std::vector<Span>& matches);

}  // namespace trireme
