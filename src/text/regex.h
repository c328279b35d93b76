// SPDX-License-Identifier: Apache-2.0
// A regular expression in the dialect of tokenizer.json (Oniguruma's Ruby syntax), run by PCRE2
// with limits on steps and memory. Immutable, thread-safe.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "text/model.h"

namespace trireme {

class Regex {
 public:
  static StatusOr<std::unique_ptr<Regex>> Compile(std::string_view pattern);
  // A pattern that matches `text` and nothing else.
  static StatusOr<std::unique_ptr<Regex>> CompileLiteral(std::string_view text);
  ~Regex();

  // Appends the successive matches in `text` (valid UTF-8), leftmost first, none overlapping.
  Status FindAll(std::string_view text, std::vector<Span>& matches) const;
  const std::string& pattern() const { return pattern_; }

 private:
  struct Code;
  Regex();
  std::string pattern_;
  std::unique_ptr<Code> code_;
};

// The same expression in PCRE2's syntax: nested and intersected character classes, white space as
// Unicode's White_Space, scripts without extensions, `{n,m}+` as a repeated repetition.
StatusOr<std::string> TranslateRegex(std::string_view pattern);

}  // namespace trireme
