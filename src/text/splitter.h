// SPDX-License-Identifier: Apache-2.0
// Pattern matching for Split steps: regular expressions through PCRE2, published ones through
// hand-written scanners. Immutable, thread-safe.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "text/model.h"

namespace trireme {

class Splitter {
 public:
  virtual ~Splitter() = default;
  // Appends the matches within `text`, leftmost first; what lies between them matches nothing.
  virtual Status FindAll(std::string_view text, std::vector<Span>& matches) const = 0;
  // Whether the matches always cover the whole text.
  virtual bool covers_all() const { return false; }
};

StatusOr<std::unique_ptr<Splitter>> MakeRegexSplitter(std::string_view pattern);
std::unique_ptr<Splitter> MakeLiteralSplitter(std::string_view literal);

// The pattern that a ByteLevel step with use_regex cuts by.
extern const std::string_view kByteLevelPattern;

}  // namespace trireme
