// SPDX-License-Identifier: Apache-2.0
// Tokens that stand beside the model's vocabulary and are cut out of a text before the model
// sees it. Immutable once built, then thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/status.h"
#include "text/literal_matcher.h"
#include "text/model.h"
#include "text/normalizer.h"

namespace trireme {

struct AddedToken {
  std::string content;
  int32_t id = -1;
  bool single_word = false;  // only where no word character touches it
  bool lstrip = false;       // swallows the white space before it
  bool rstrip = false;       // and behind it
  bool normalized = false;   // looked for in the normalized text
  bool special = false;      // left out by skip_special_tokens
  std::string in_text;       // how it stands in the normalized text, if `normalized`; set by Finish
};

// A part of a text: a token, or (id < 0) text for the model.
struct Segment {
  Span span;
  int32_t id = -1;
};

class AddedTokens {
 public:
  // A content given again replaces the earlier token.
  void Add(AddedToken token);
  // `normalizer` may be null.
  Status Finish(const Normalizer* normalizer);

  // Appends the segments of a raw text / of a normalized part of it.
  void CutRaw(std::string_view text, std::vector<Segment>& segments) const;
  void CutNormalized(std::string_view text, std::vector<Segment>& segments) const;
  bool has_normalized() const { return !normalized_.empty(); }

  const AddedToken* Find(std::string_view content) const;
  const AddedToken* Find(int32_t id) const;
  const std::vector<AddedToken>& tokens() const { return tokens_; }

 private:
  void Cut(const LiteralMatcher& matcher, std::string_view text, std::vector<Segment>& out) const;

  std::vector<AddedToken> tokens_;
  std::unordered_map<std::string, size_t> by_content_;
  std::unordered_map<int32_t, size_t> by_id_;
  int32_t lowest_id_ = 0, highest_id_ = -1;
  LiteralMatcher raw_, normalized_;  // values are indices into tokens_
};

}  // namespace trireme
