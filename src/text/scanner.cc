// SPDX-License-Identifier: Apache-2.0
#include "text/scanner.h"

#include <array>

#include "text/unicode.h"
#include "text/utf8.h"

namespace trireme {
namespace {

using Style = ScannerStyle;

// What the patterns tell apart.
enum Kind : uint8_t {
  kUpper,    // Lu, Lt
  kLower,    // Ll
  kUncased,  // Lm, Lo
  kNumber,
  kMark,
  kOther,
  kSpace,
  kLineEnd,  // \r, \n
  kEnd,      // the end of the text
};

constexpr bool IsLetterKind(Kind kind) { return kind <= kUncased; }
constexpr bool IsSpaceKind(Kind kind) { return kind == kSpace || kind == kLineEnd; }
constexpr bool IsOtherKind(Kind kind) { return kind == kOther || kind == kMark; }

// Of a class byte of unicode.h.
constexpr std::array<Kind, 256> MakeKinds() {
  std::array<Kind, 256> kinds{};
  for (int value = 0; value < 256; ++value) {
    const int category = value & unicode::kCategoryMask;
    Kind kind = kOther;
    if (value & unicode::kWhiteSpaceBit)
      kind = kSpace;
    else if (category == unicode::kLu || category == unicode::kLt)
      kind = kUpper;
    else if (category == unicode::kLl)
      kind = kLower;
    else if (category == unicode::kLm || category == unicode::kLo)
      kind = kUncased;
    else if (category >= unicode::kNd && category <= unicode::kNo)
      kind = kNumber;
    else if (category >= unicode::kMn && category <= unicode::kMe)
      kind = kMark;
    kinds[static_cast<size_t>(value)] = kind;
  }
  return kinds;
}
constexpr std::array<Kind, 256> kKindOfClass = MakeKinds();

constexpr std::array<Kind, 128> MakeAsciiKinds() {
  std::array<Kind, 128> kinds{};
  for (int c = 0; c < 128; ++c) {
    Kind kind = kOther;
    if (c >= 'A' && c <= 'Z')
      kind = kUpper;
    else if (c >= 'a' && c <= 'z')
      kind = kLower;
    else if (c >= '0' && c <= '9')
      kind = kNumber;
    else if (c == '\r' || c == '\n')
      kind = kLineEnd;
    else if (c == ' ' || (c >= 9 && c <= 13))
      kind = kSpace;
    kinds[static_cast<size_t>(c)] = kind;
  }
  return kinds;
}
constexpr std::array<Kind, 128> kAsciiKinds = MakeAsciiKinds();

// The scan of one text. Members named Take... advance `at_` and return whether they matched.
class Scanner {
 public:
  Scanner(const Style& style, std::string_view text)
      : style_(style), text_(text.data()), size_(static_cast<uint32_t>(text.size())) {}

  void Run(std::vector<Span>& matches) {
    while (at_ < size_) {
      const uint32_t begin = at_;
      Next();
      matches.push_back({begin, at_});
    }
  }

 private:
  struct Char {
    Kind kind;
    uint32_t size;
  };
  Char CharAt(uint32_t at) const {
    if (at >= size_) return {kEnd, 0};
    const auto byte = static_cast<uint8_t>(text_[at]);
    if (byte < 0x80) return {kAsciiKinds[byte], 1};
    const utf8::Decoded d = utf8::DecodeValid(text_ + at);
    return {kKindOfClass[unicode::ClassOf(d.code_point)], d.size};
  }

  // Passes the run of characters that satisfy `in`, from `at`; returns its end.
  template <typename In>
  uint32_t EndOfRun(uint32_t at, In in) const {
    while (true) {
      const Char c = CharAt(at);
      if (c.size == 0 || !in(c.kind)) return at;
      at += c.size;
    }
  }

  void Next() {
    const Char c = CharAt(at_);
    const bool cased = style_.letters == Style::Letters::kCased;
    if (text_[at_] == '\'' && !cased && style_.contractions != Style::Contractions::kNone) {
      if (const uint32_t end = EndOfContraction(at_); end > at_) {
        at_ = end;
        return;
      }
    }
    if (cased ? TakeCased(c) : TakeLetters(c)) return;
    if (TakeNumber(c)) return;
    if (TakeOther(c)) return;
    TakeSpace();
  }

  // End of the contraction at `at`, which holds an apostrophe; `at` when there is none.
  uint32_t EndOfContraction(uint32_t at) const {
    const bool any_case = style_.contractions == Style::Contractions::kAnyCase;
    const auto letter = [&](uint32_t i) -> char {
      if (i >= size_) return '\0';
      const char c = text_[i];
      return any_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    };
    const char first = letter(at + 1), second = letter(at + 2);
    switch (first) {
      case 's':
      case 't':
      case 'm':
      case 'd': return at + 2;
      case 'r':
      case 'v': return second == 'e' ? at + 3 : at;
      case 'l': return second == 'l' ? at + 3 : at;
      default: break;
    }
    // The long s folds to s.
    if (any_case && at + 2 < size_ && text_[at + 1] == '\xc5' && text_[at + 2] == '\xbf')
      return at + 3;
    return at;
  }

  // Where letters may begin: at `at_`, or behind one character that may stand before them.
  bool LettersBegin(const Char& c, uint32_t& begin) const {
    begin = at_;
    if (IsLetterKind(c.kind)) return true;
    const bool may_precede = style_.letters == Style::Letters::kSpaceBefore
                                 ? text_[at_] == ' '
                                 : c.kind != kLineEnd && c.kind != kNumber;
    if (!may_precede) return false;
    begin = at_ + c.size;
    return IsLetterKind(CharAt(begin).kind);
  }

  bool TakeLetters(const Char& c) {
    uint32_t begin;
    if (!LettersBegin(c, begin)) return false;
    at_ = EndOfRun(begin, IsLetterKind);
    return true;
  }

  // The alternatives `x? upper* lower+` and `x? upper+ lower*`, caseless letters and marks being
  // both upper and lower; each tries the character before (which a mark may be) first.
  bool TakeCased(const Char& c) {
    const bool may_precede = !IsLetterKind(c.kind) && c.kind != kLineEnd && c.kind != kNumber;
    const bool may_begin = IsLetterKind(c.kind) || c.kind == kMark;
    for (const bool ends_lower : {true, false}) {
      if (may_precede && TakeCasedFrom(at_ + c.size, ends_lower)) return true;
      if (may_begin && TakeCasedFrom(at_, ends_lower)) return true;
    }
    return false;
  }

  bool TakeCasedFrom(uint32_t begin, bool ends_lower) {
    const auto lower = [](Kind kind) {
      return kind == kLower || kind == kUncased || kind == kMark;
    };
    // The longest run of upper ones, and the end of its last character that is lower too.
    uint32_t end = begin, last_shared = begin;
    while (true) {
      const Char c = CharAt(end);
      if (c.kind != kUpper && c.kind != kUncased && c.kind != kMark) break;
      end += c.size;
      if (c.kind != kUpper) last_shared = end;
    }
    const uint32_t tail = EndOfRun(end, lower);
    if (ends_lower && tail == end)
      end = last_shared;
    else if (!ends_lower && end == begin)
      return false;
    else
      end = tail;
    if (end == begin) return false;
    at_ = end;
    if (at_ < size_ && text_[at_] == '\'' && style_.contractions != Style::Contractions::kNone)
      at_ = EndOfContraction(at_);
    return true;
  }

  bool TakeNumber(const Char& c) {
    uint32_t begin = at_;
    if (style_.space_before_number && text_[at_] == ' ') ++begin;
    if (begin == at_ ? c.kind != kNumber : CharAt(begin).kind != kNumber) return false;
    if (style_.number_length == 0) {
      at_ = EndOfRun(begin, [](Kind kind) { return kind == kNumber; });
      return true;
    }
    for (uint32_t i = 0; i < style_.number_length; ++i) {
      const Char digit = CharAt(begin);
      if (digit.kind != kNumber) break;
      begin += digit.size;
    }
    at_ = begin;
    return true;
  }

  bool TakeOther(const Char& c) {
    const uint32_t begin = text_[at_] == ' ' ? at_ + 1 : at_;
    if (begin == at_ ? !IsOtherKind(c.kind) : !IsOtherKind(CharAt(begin).kind)) return false;
    at_ = EndOfRun(begin, IsOtherKind);
    if (style_.behind_other == Style::Behind::kNothing) return true;
    const bool slashes = style_.behind_other == Style::Behind::kLineEndsAndSlashes;
    while (at_ < size_ &&
           (text_[at_] == '\r' || text_[at_] == '\n' || (slashes && text_[at_] == '/')))
      ++at_;
    return true;
  }

  // `\s*[\r\n]+`, `\s+(?!\S)`, `\s+`.
  void TakeSpace() {
    uint32_t end = at_, last_start = at_, line_end = at_;
    while (true) {
      const Char c = CharAt(end);
      if (!IsSpaceKind(c.kind)) break;
      last_start = end;
      end += c.size;
      if (c.kind == kLineEnd) line_end = end;
    }
    if (style_.lines && line_end > at_) {
      at_ = line_end;
      return;
    }
    at_ = end == size_ || last_start == at_ ? end : last_start;
  }

  const Style& style_;
  const char* text_;
  uint32_t size_;
  uint32_t at_ = 0;
};

struct Alternative {
  std::string_view text;
  void (*apply)(Style&);
};

// Takes the first of `choices` that `pattern` goes on with.
template <size_t kCount>
bool TakeOne(std::string_view& pattern, const Alternative (&choices)[kCount], Style& style) {
  for (const Alternative& choice : choices) {
    if (!pattern.starts_with(choice.text)) continue;
    pattern.remove_prefix(choice.text.size());
    choice.apply(style);
    return true;
  }
  return false;
}

const Alternative kContractionForms[] = {
    {R"('s|'t|'re|'ve|'m|'ll|'d|)",
     [](Style& s) { s.contractions = Style::Contractions::kLowerCase; }},
    {R"('(?:[sdmt]|ll|ve|re)|)",
     [](Style& s) { s.contractions = Style::Contractions::kLowerCase; }},
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|)",
     [](Style& s) { s.contractions = Style::Contractions::kAnyCase; }},
    {R"('(?i:[sdmt]|ll|ve|re)|)", [](Style& s) { s.contractions = Style::Contractions::kAnyCase; }},
};

#define TRIREME_UPPER_RUN R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}])"
#define TRIREME_LOWER_RUN R"([\p{Ll}\p{Lm}\p{Lo}\p{M}])"
#define TRIREME_ENDINGS R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
const Alternative kLetterForms[] = {
    {R"( ?\p{L}+|)", [](Style& s) { s.letters = Style::Letters::kSpaceBefore; }},
    {R"([^\r\n\p{L}\p{N}]?\p{L}+|)", [](Style& s) { s.letters = Style::Letters::kAnyBefore; }},
    {R"([^\r\n\p{L}\p{N}]?+\p{L}+|)", [](Style& s) { s.letters = Style::Letters::kAnyBefore; }},
    {TRIREME_UPPER_RUN "*" TRIREME_LOWER_RUN "+" TRIREME_ENDINGS TRIREME_UPPER_RUN
                       "+" TRIREME_LOWER_RUN "*" TRIREME_ENDINGS,
     [](Style& s) {
       s.letters = Style::Letters::kCased;
       s.contractions = Style::Contractions::kAnyCase;
     }},
    {TRIREME_UPPER_RUN "*" TRIREME_LOWER_RUN "+|" TRIREME_UPPER_RUN "+" TRIREME_LOWER_RUN "*|",
     [](Style& s) { s.letters = Style::Letters::kCased; }},
};
#undef TRIREME_UPPER_RUN
#undef TRIREME_LOWER_RUN
#undef TRIREME_ENDINGS

const Alternative kNumberForms[] = {
    {R"( ?\p{N}+|)", [](Style& s) { s.space_before_number = true; }},
    {R"(\p{N}+|)", [](Style&) {}},
    {R"(\p{N}|)", [](Style& s) { s.number_length = 1; }},
    {R"(\p{N}{1,2}|)", [](Style& s) { s.number_length = 2; }},
    {R"(\p{N}{1,3}|)", [](Style& s) { s.number_length = 3; }},
};

const Alternative kOtherForms[] = {
    {R"( ?[^\s\p{L}\p{N}]+|)", [](Style&) {}},
    {R"( ?[^\s\p{L}\p{N}]+[\r\n]*|)", [](Style& s) { s.behind_other = Style::Behind::kLineEnds; }},
    {R"( ?[^\s\p{L}\p{N}]++[\r\n]*|)", [](Style& s) { s.behind_other = Style::Behind::kLineEnds; }},
    {R"( ?[^\s\p{L}\p{N}]+[\r\n/]*|)",
     [](Style& s) { s.behind_other = Style::Behind::kLineEndsAndSlashes; }},
};

const Alternative kSpaceForms[] = {
    {R"(\s+(?!\S)|\s+)", [](Style&) {}},
    {R"(\s*[\r\n]+|\s+(?!\S)|\s+)", [](Style& s) { s.lines = true; }},
    // \s* takes the line ends before the last, so this is the same.
    {R"(\s*[\r\n]|\s+(?!\S)|\s+)", [](Style& s) { s.lines = true; }},
};

}  // namespace

std::optional<ScannerStyle> RecognizeScanner(std::string_view pattern) {
  Style style;
  const bool own_contractions = TakeOne(pattern, kContractionForms, style);
  const bool known = TakeOne(pattern, kLetterForms, style) &&
                     TakeOne(pattern, kNumberForms, style) &&
                     TakeOne(pattern, kOtherForms, style) && TakeOne(pattern, kSpaceForms, style);
  if (!known || !pattern.empty()) return std::nullopt;
  if (own_contractions && style.letters == Style::Letters::kCased) return std::nullopt;
  return style;
}

void Scan(const ScannerStyle& style, std::string_view text, std::vector<Span>& matches) {
  Scanner(style, text).Run(matches);
}

}  // namespace trireme
