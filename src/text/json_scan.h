// SPDX-License-Identifier: Apache-2.0
// A cursor over JSON text for the two big members of a tokenizer.json, the vocabulary and the
// merges, which a document tree would read ten times slower. One thread at a time.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"

namespace trireme {

class JsonCursor {
 public:
  // The text must outlive the cursor and the views it returns.
  explicit JsonCursor(std::string_view text, size_t position = 0)
      : text_(text), position_(position) {}

  // Consumes `wanted` (after white space) and returns true, or returns false.
  bool Take(char wanted);
  // The next character after white space, '\0' at the end; not consumed.
  char Peek();
  Status Expect(char wanted);
  // A string, unescaped: a view of the text, or of `scratch` when it holds escapes.
  Status String(std::string& scratch, std::string_view& value);
  Status Integer(int64_t& value);
  Status Number(double& value);
  // Passes over one value; returns its text. Strings are matched, numbers are not checked.
  Status Skip(std::string_view& value);

  size_t position() const { return position_; }
  std::string_view text() const { return text_; }
  Status Error(std::string_view wanted) const;

 private:
  void SkipSpace();
  Status Unescape(size_t begin, std::string& scratch);
  Status HexQuad(uint32_t& value);

  std::string_view text_;
  size_t position_;
};

}  // namespace trireme
