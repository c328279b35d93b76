// SPDX-License-Identifier: Apache-2.0
// The lexer: finds tags, applies white space control, splits tags into tokens. Thread-safe.
#include "text/jinja_lexer.h"

#include <algorithm>
#include <cctype>

#include "text/jinja_runtime.h"
#include "text/jinja_unicode.h"

namespace trireme::jinja {
namespace {

std::string NormalizeNewlines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out.push_back(source[i]);
      continue;
    }
    out.push_back('\n');
    if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

bool IsAsciiDigit(char c) { return c >= '0' && c <= '9'; }

int HexDigit(char c) {
  if (IsAsciiDigit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// The text of a literal between its quotes.
std::string Unescape(std::string_view body) {
  std::string out;
  size_t i = 0;
  auto number = [&](size_t digits) {
    uint32_t code = 0;
    for (size_t k = 0; k < digits; ++k, ++i) {
      const int digit = i < body.size() ? HexDigit(body[i]) : -1;
      if (digit < 0) Fail("a string has a truncated \\x, \\u or \\U escape");
      code = code * 16 + static_cast<uint32_t>(digit);
    }
    if (code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) {
      Fail("a string has an escape that is no character: {:#x}", code);
    }
    AppendCodePoint(code, &out);
  };
  while (i < body.size()) {
    if (body[i] != '\\' || i + 1 == body.size()) {
      out.push_back(body[i++]);
      continue;
    }
    const char c = body[i + 1];
    i += 2;
    static constexpr std::string_view kFrom = "\\'\"abfnrtv";
    static constexpr std::string_view kTo = "\\'\"\a\b\f\n\r\t\v";
    if (const size_t simple = kFrom.find(c); simple != kFrom.npos) {
      out.push_back(kTo[simple]);
    } else if (c == '\n') {
      continue;
    } else if (c == 'x') {
      number(2);
    } else if (c == 'u') {
      number(4);
    } else if (c == 'U') {
      number(8);
    } else if (c == 'N') {
      Fail("a string has a \\N escape; write the character itself");
    } else if (c >= '0' && c <= '7') {
      uint32_t code = static_cast<uint32_t>(c - '0');
      for (int k = 0; k < 2 && i < body.size() && body[i] >= '0' && body[i] <= '7'; ++k) {
        code = code * 8 + static_cast<uint32_t>(body[i++] - '0');
      }
      AppendCodePoint(code, &out);
    } else {
      out.push_back('\\');
      out.push_back(c);
    }
  }
  return out;
}

class Lexer {
 public:
  Lexer(std::string source, int* line) : source_(std::move(source)), line_(line) { *line_ = 1; }

  std::vector<Token> Run() {
    while (at_ < source_.size()) {
      const size_t tag = FindTag();
      if (tag == std::string::npos) {
        AddData(std::string_view(source_).substr(at_));
        at_ = source_.size();
        break;
      }
      LexTag(tag);
    }
    tokens_.push_back({TokenType::kEnd, *line_, ""});
    return std::move(tokens_);
  }

 private:
  bool At(size_t position, std::string_view text) const {
    return std::string_view(source_).substr(position).starts_with(text);
  }

  size_t FindTag() const {
    for (size_t i = at_; i + 1 < source_.size(); ++i) {
      if (source_[i] == '{' &&
          (source_[i + 1] == '{' || source_[i + 1] == '%' || source_[i + 1] == '#')) {
        return i;
      }
    }
    return std::string::npos;
  }

  size_t SkipSpace(size_t position) const {
    while (position < source_.size()) {
      size_t next = position;
      if (!IsSpace(DecodeAt(source_, &next))) break;
      position = next;
    }
    return position;
  }

  // Moves to `position`, counting lines.
  void Advance(size_t position) {
    *line_ +=
        static_cast<int>(std::count(source_.begin() + static_cast<ptrdiff_t>(at_),
                                    source_.begin() + static_cast<ptrdiff_t>(position), '\n'));
    if (position > at_) line_starting_ = source_[position - 1] == '\n';
    at_ = position;
  }

  void AddData(std::string_view text) {
    if (!text.empty()) tokens_.push_back({TokenType::kData, *line_, std::string(text)});
  }

  // Adds the text before a tag, stripped as its sign asks.
  void AddTextBefore(size_t tag, char sign, bool is_variable) {
    std::string_view text = std::string_view(source_).substr(at_, tag - at_);
    if (sign == '-') {
      text = Strip(text, {}, false, true);
    } else if (sign != '+' && !is_variable) {
      const size_t newline = text.rfind('\n');
      const size_t line_start = newline == text.npos ? 0 : newline + 1;
      if (line_start > 0 || line_starting_) {
        if (StripSpace(text.substr(line_start)).empty()) text = text.substr(0, line_start);
      }
    }
    AddData(text);
  }

  char SignAt(size_t position) const {
    if (position < source_.size() && (source_[position] == '-' || source_[position] == '+')) {
      return source_[position];
    }
    return 0;
  }

  void LexTag(size_t tag) {
    const char kind = source_[tag + 1];
    const char sign = SignAt(tag + 2);
    if (kind == '%' && LexRaw(tag, sign)) return;
    AddTextBefore(tag, sign, kind == '{');
    Advance(tag + 2 + (sign != 0));
    if (kind == '#') {
      LexComment();
    } else {
      LexInside(kind == '{');
    }
  }

  // {% raw %} ... {% endraw %}; false when the tag at `tag` is another.
  bool LexRaw(size_t tag, char sign) {
    size_t at = SkipSpace(tag + 2 + (sign != 0));
    if (!At(at, "raw")) return false;
    at = SkipSpace(at + 3);
    const bool trims = At(at, "-%}");
    if (!trims && !At(at, "%}")) return false;
    AddTextBefore(tag, sign, false);
    Advance(trims ? SkipSpace(at + 3) : at + 2);
    for (size_t i = at_; i + 1 < source_.size(); ++i) {
      if (!At(i, "{%")) continue;
      const char end_sign = SignAt(i + 2);
      const size_t name = SkipSpace(i + 2 + (end_sign != 0));
      if (!At(name, "endraw")) continue;
      const size_t end = BlockEndAt(SkipSpace(name + 6));
      if (end == 0) continue;
      AddTextBefore(i, end_sign, false);
      Advance(end);
      return true;
    }
    Fail("missing end of the raw block: {% endraw %}");
  }

  // Position after a "%}" with its sign and what it trims; 0 when there is none.
  size_t BlockEndAt(size_t at) const {
    if (At(at, "+%}")) return at + 3;
    if (At(at, "-%}")) return SkipSpace(at + 3);
    if (At(at, "%}")) return at + 2 + At(at + 2, "\n");
    return 0;
  }

  void LexComment() {
    const size_t end = source_.find("#}", at_);
    if (end == std::string::npos) Fail("missing end of the comment: #}");
    const char sign = end > at_ ? source_[end - 1] : 0;
    size_t next = end + 2;
    if (sign == '-') {
      next = SkipSpace(next);
    } else if (sign != '+' && At(next, "\n")) {
      ++next;
    }
    Advance(next);
  }

  void LexInside(bool is_variable) {
    tokens_.push_back(
        {is_variable ? TokenType::kVariableBegin : TokenType::kBlockBegin, *line_, ""});
    std::string open;  // the closing brackets awaited
    while (true) {
      if (open.empty()) {
        const size_t end = is_variable ? VariableEndAt(at_) : BlockEndAt(at_);
        if (end != 0) {
          tokens_.push_back(
              {is_variable ? TokenType::kVariableEnd : TokenType::kBlockEnd, *line_, ""});
          Advance(end);
          return;
        }
      }
      if (at_ >= source_.size()) {
        // The parser says what is missing, with the tag it was reading.
        return;
      }
      const size_t after_space = SkipSpace(at_);
      if (after_space != at_) {
        Advance(after_space);
        continue;
      }
      LexToken(&open);
    }
  }

  size_t VariableEndAt(size_t at) const {
    if (At(at, "-}}")) return SkipSpace(at + 3);
    return At(at, "}}") ? at + 2 : 0;
  }

  void LexToken(std::string* open) {
    const char c = source_[at_];
    if (IsAsciiDigit(c)) return LexNumber();
    if (c == '\'' || c == '"') return LexString(c);
    if (LexName()) return;
    LexOperator(open);
  }

  // Digits with single '_' between them, from `at`; returns the end.
  size_t DigitsEnd(size_t at) const {
    while (at < source_.size() && IsAsciiDigit(source_[at])) {
      ++at;
      if (At(at, "_") && at + 1 < source_.size() && IsAsciiDigit(source_[at + 1])) ++at;
    }
    return at;
  }

  void AddNumber(TokenType type, size_t end) {
    std::string text = source_.substr(at_, end - at_);
    std::erase(text, '_');
    tokens_.push_back({type, *line_, std::move(text)});
    Advance(end);
  }

  void LexNumber() {
    const bool after_dot =
        !tokens_.empty() && tokens_.back().IsOperator(".") && at_ > 0 && source_[at_ - 1] == '.';
    size_t end = DigitsEnd(at_);
    bool is_float = false;
    if (!after_dot) {
      if (At(end, ".") && end + 1 < source_.size() && IsAsciiDigit(source_[end + 1])) {
        end = DigitsEnd(end + 1);
        is_float = true;
      }
      if (At(end, "e") || At(end, "E")) {
        const size_t digits = end + 1 + (SignAt(end + 1) != 0);
        if (digits < source_.size() && IsAsciiDigit(source_[digits])) {
          end = DigitsEnd(digits);
          is_float = true;
        }
      }
    }
    if (is_float) return AddNumber(TokenType::kFloat, end);
    if (source_[at_] != '0') return AddNumber(TokenType::kInteger, end);
    const char base = at_ + 1 < source_.size() ? static_cast<char>(source_[at_ + 1] | 0x20) : 0;
    if (base == 'x' || base == 'o' || base == 'b') {
      const int limit = base == 'x' ? 16 : base == 'o' ? 8 : 2;
      end = at_ + 2;
      while (end < source_.size()) {
        const int digit = HexDigit(source_[end]);
        if (source_[end] != '_' && (digit < 0 || digit >= limit)) break;
        ++end;
      }
      if (end > at_ + 2) return AddNumber(TokenType::kInteger, end);
    }
    end = at_ + 1;
    while (At(end, "0") || At(end, "_0")) ++end;
    AddNumber(TokenType::kInteger, end);
  }

  void LexString(char quote) {
    size_t end = at_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) Fail("a string has no closing {}", quote);
    const std::string_view body = std::string_view(source_).substr(at_ + 1, end - at_ - 1);
    tokens_.push_back({TokenType::kString, *line_, Unescape(body)});
    Advance(end + 1);
  }

  bool LexName() {
    size_t end = at_;
    while (end < source_.size()) {
      size_t next = end;
      if (!IsWord(DecodeAt(source_, &next))) break;
      end = next;
    }
    if (end == at_) return false;
    tokens_.push_back({TokenType::kName, *line_, source_.substr(at_, end - at_)});
    Advance(end);
    return true;
  }

  void LexOperator(std::string* open) {
    static constexpr std::string_view kTwo[] = {"//", "**", "==", "!=", ">=", "<="};
    static constexpr std::string_view kOne = "+-/*%~[](){}><=.:|,;";
    std::string_view op;
    for (std::string_view two : kTwo) {
      if (At(at_, two)) op = two;
    }
    if (op.empty() && kOne.find(source_[at_]) != kOne.npos) {
      op = std::string_view(source_).substr(at_, 1);
    }
    if (op.empty()) {
      size_t end = at_;
      DecodeAt(source_, &end);
      Fail("unexpected character '{}'", source_.substr(at_, end - at_));
    }
    const char c = op[0];
    if (c == '(' || c == '[' || c == '{') {
      open->push_back(c == '(' ? ')' : c == '[' ? ']' : '}');
    } else if (c == ')' || c == ']' || c == '}') {
      if (open->empty()) Fail("unexpected '{}'", c);
      if (open->back() != c) Fail("unexpected '{}', expected '{}'", c, open->back());
      open->pop_back();
    }
    tokens_.push_back({TokenType::kOperator, *line_, std::string(op)});
    Advance(at_ + op.size());
  }

  const std::string source_;
  int* const line_;
  size_t at_ = 0;
  bool line_starting_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> Tokenize(std::string_view source, int* line) {
  return Lexer(NormalizeNewlines(source), line).Run();
}

std::string Describe(const Token& token) {
  switch (token.type) {
    case TokenType::kData: return "template text";
    case TokenType::kVariableBegin: return "'{{'";
    case TokenType::kVariableEnd: return "'}}'";
    case TokenType::kBlockBegin: return "'{%'";
    case TokenType::kBlockEnd: return "'%}'";
    case TokenType::kString: return "a string";
    case TokenType::kEnd: return "the end of the template";
    default: return "'" + token.text + "'";
  }
}

}  // namespace trireme::jinja
