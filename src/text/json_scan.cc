// SPDX-License-Identifier: Apache-2.0
#include "text/json_scan.h"

#include <charconv>
#include <cstring>

#include "text/utf8.h"

namespace trireme {
namespace {

constexpr size_t kMaxDepth = 64;

bool IsSpace(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

// Whether a byte of `word` is '"', '\\' or below 0x20 (may err on the side of yes).
bool HasSpecial(uint64_t word) {
  constexpr uint64_t kOnes = 0x0101010101010101ull, kHigh = 0x8080808080808080ull;
  const auto has_zero = [](uint64_t x) { return (x - kOnes) & ~x & kHigh; };
  return (has_zero(word ^ kOnes * '"') | has_zero(word ^ kOnes * '\\') |
          ((word - kOnes * 0x20) & ~word & kHigh)) != 0;
}

}  // namespace

void JsonCursor::SkipSpace() {
  while (position_ < text_.size() && IsSpace(text_[position_])) ++position_;
}

char JsonCursor::Peek() {
  SkipSpace();
  return position_ < text_.size() ? text_[position_] : '\0';
}

bool JsonCursor::Take(char wanted) {
  if (Peek() != wanted) return false;
  ++position_;
  return true;
}

Status JsonCursor::Error(std::string_view wanted) const {
  return InvalidArgument("not valid JSON at byte {}: expected {}", position_, wanted);
}

Status JsonCursor::Expect(char wanted) {
  if (Take(wanted)) return OkStatus();
  return Error(std::string(1, wanted));
}

Status JsonCursor::String(std::string& scratch, std::string_view& value) {
  if (!Take('"')) return Error("a string");
  const size_t begin = position_;
  while (position_ + 8 <= text_.size()) {
    uint64_t word;
    std::memcpy(&word, text_.data() + position_, 8);
    if (HasSpecial(word)) break;
    position_ += 8;
  }
  for (; position_ < text_.size(); ++position_) {
    const char c = text_[position_];
    if (c == '"') {
      value = text_.substr(begin, position_ - begin);
      ++position_;
      return OkStatus();
    }
    if (c == '\\') {
      TRIREME_RETURN_IF_ERROR(Unescape(begin, scratch));
      value = scratch;
      return OkStatus();
    }
    if (static_cast<uint8_t>(c) < 0x20) break;
  }
  return Error("the end of a string");
}

// At the first backslash of a string that began at `begin`.
Status JsonCursor::Unescape(size_t begin, std::string& scratch) {
  scratch.assign(text_.substr(begin, position_ - begin));
  while (position_ < text_.size()) {
    const char c = text_[position_++];
    if (c == '"') return OkStatus();
    if (static_cast<uint8_t>(c) < 0x20) break;
    if (c != '\\') {
      scratch.push_back(c);
      continue;
    }
    if (position_ >= text_.size()) break;
    const char escape = text_[position_++];
    constexpr std::string_view kFrom = "\"\\/bfnrt", kTo = "\"\\/\b\f\n\r\t";
    if (const size_t at = kFrom.find(escape); at != std::string_view::npos) {
      scratch.push_back(kTo[at]);
      continue;
    }
    if (escape != 'u') return Error("a known escape");
    uint32_t unit = 0;
    TRIREME_RETURN_IF_ERROR(HexQuad(unit));
    if (unit >= 0xd800 && unit < 0xdc00 && text_.substr(position_, 2) == "\\u") {
      position_ += 2;
      uint32_t low = 0;
      TRIREME_RETURN_IF_ERROR(HexQuad(low));
      if (low < 0xdc00 || low > 0xdfff) return Error("the second half of a surrogate pair");
      unit = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
    }
    if (unit >= 0xd800 && unit < 0xe000) return Error("no lone surrogate");
    utf8::Append(unit, scratch);
  }
  return Error("the end of a string");
}

Status JsonCursor::HexQuad(uint32_t& value) {
  if (position_ + 4 > text_.size()) return Error("four hexadecimal digits");
  const char* begin = text_.data() + position_;
  const auto result = std::from_chars(begin, begin + 4, value, 16);
  if (result.ec != std::errc() || result.ptr != begin + 4) return Error("four hexadecimal digits");
  position_ += 4;
  return OkStatus();
}

Status JsonCursor::Integer(int64_t& value) {
  SkipSpace();
  const char* begin = text_.data() + position_;
  const char* end = text_.data() + text_.size();
  const auto result = std::from_chars(begin, end, value);
  if (result.ec != std::errc()) return Error("an integer");
  position_ += static_cast<size_t>(result.ptr - begin);
  return OkStatus();
}

Status JsonCursor::Number(double& value) {
  SkipSpace();
  const char* begin = text_.data() + position_;
  const auto result = std::from_chars(begin, text_.data() + text_.size(), value);
  if (result.ec != std::errc()) return Error("a number");
  position_ += static_cast<size_t>(result.ptr - begin);
  return OkStatus();
}

Status JsonCursor::Skip(std::string_view& value) {
  SkipSpace();
  const size_t begin = position_;
  size_t depth = 0;
  std::string scratch;
  while (position_ < text_.size()) {
    const char c = text_[position_];
    if (c == '"') {
      std::string_view ignored;
      TRIREME_RETURN_IF_ERROR(String(scratch, ignored));
    } else if (c == '{' || c == '[') {
      // Readers of the value may call themselves once a level.
      if (++depth > kMaxDepth) return Error("less nesting");
      ++position_;
    } else if (c == '}' || c == ']') {
      if (depth == 0) break;
      --depth;
      ++position_;
    } else if (depth == 0 && (c == ',' || IsSpace(c))) {
      break;
    } else {
      ++position_;
      continue;  // inside a number or word, or between the members of a container
    }
    if (depth == 0) break;
  }
  if (depth != 0 || position_ == begin) return Error("a value");
  value = text_.substr(begin, position_ - begin);
  return OkStatus();
}

}  // namespace trireme
