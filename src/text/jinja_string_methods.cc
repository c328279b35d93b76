// SPDX-License-Identifier: Apache-2.0
// Methods of str. Constant table; calls draw on one render's budget.
#include <algorithm>

#include "text/jinja_filters.h"
#include "text/jinja_unicode.h"

namespace trireme::jinja {

std::vector<std::string_view> SplitLines(std::string_view text, bool keep_ends) {
  std::vector<std::string_view> lines;
  size_t start = 0;
  for (size_t i = 0; i < text.size();) {
    const size_t at = i;
    const uint32_t code = DecodeAt(text, &i);
    const bool ends = (code >= 0x0A && code <= 0x0D) || (code >= 0x1C && code <= 0x1E) ||
                      code == 0x85 || code == 0x2028 || code == 0x2029;
    if (!ends) continue;
    if (code == '\r' && i < text.size() && text[i] == '\n') ++i;
    lines.push_back(text.substr(start, (keep_ends ? i : at) - start));
    start = i;
  }
  if (start < text.size()) lines.push_back(text.substr(start));
  return lines;
}

namespace {

// Every method reads its text once or more; its result is charged when it is made.
const std::string& SelfText(Runtime& rt, const Value& self) {
  rt.StepBytes(self.text().size());
  return self.text();
}

Value Like(Runtime& rt, const Value& self, std::string text) {
  return rt.String(std::move(text), self.markup());
}

Value Like(Runtime& rt, const Value& self, std::string_view text) {
  return rt.String(std::string(text), self.markup());
}

template <std::string (*kConvert)(std::string_view)>
Value Converted(Runtime& rt, const Value& self, const Args& args) {
  BoundArgs("str method", args, {});
  return Like(rt, self, kConvert(SelfText(rt, self)));
}

template <bool kLeft, bool kRight>
Value MethodStrip(Runtime& rt, const Value& self, const Args& args) {
  const BoundArgs bound("strip", args, {"chars"});
  const std::string& text = SelfText(rt, self);
  if (!bound.HasValue(0)) return Like(rt, self, Strip(text, {}, kLeft, kRight));
  const std::string& chars = bound.RequireText(0);
  if (chars.empty()) return self;
  rt.StepBytes(chars.size());
  return Like(rt, self, Strip(text, chars, kLeft, kRight));
}

// ---- Splitting.

void SplitSpace(std::string_view text, int64_t limit, std::vector<std::string_view>* parts) {
  text = Strip(text, {}, true, false);
  while (!text.empty()) {
    if (limit >= 0 && static_cast<int64_t>(parts->size()) == limit) {
      parts->push_back(Strip(text, {}, false, true));
      return;
    }
    size_t end = 0;
    while (end < text.size()) {
      size_t next = end;
      if (IsSpace(DecodeAt(text, &next))) break;
      end = next;
    }
    parts->push_back(text.substr(0, end));
    text = Strip(text.substr(end), {}, true, false);
  }
}

void SplitSpaceFromRight(std::string_view text, int64_t limit,
                         std::vector<std::string_view>* parts) {
  text = Strip(text, {}, false, true);
  while (!text.empty()) {
    if (limit >= 0 && static_cast<int64_t>(parts->size()) == limit) {
      parts->push_back(text);
      break;
    }
    size_t start = text.size();
    while (start > 0) {
      size_t previous = start - 1;
      while (previous > 0 && (static_cast<unsigned char>(text[previous]) & 0xC0) == 0x80)
        --previous;
      size_t end = previous;
      if (IsSpace(DecodeAt(text, &end))) break;
      start = previous;
    }
    parts->push_back(text.substr(start));
    text = Strip(text.substr(0, start), {}, false, true);
  }
  std::reverse(parts->begin(), parts->end());
}

void SplitOn(std::string_view text, std::string_view separator, int64_t limit,
             std::vector<std::string_view>* parts) {
  while (limit < 0 || static_cast<int64_t>(parts->size()) < limit) {
    const size_t at = text.find(separator);
    if (at == text.npos) break;
    parts->push_back(text.substr(0, at));
    text.remove_prefix(at + separator.size());
  }
  parts->push_back(text);
}

void SplitOnFromRight(std::string_view text, std::string_view separator, int64_t limit,
                      std::vector<std::string_view>* parts) {
  while (limit < 0 || static_cast<int64_t>(parts->size()) < limit) {
    const size_t at = text.rfind(separator);
    if (at == text.npos) break;
    parts->push_back(text.substr(at + separator.size()));
    text = text.substr(0, at);
  }
  parts->push_back(text);
  std::reverse(parts->begin(), parts->end());
}

Value ListOf(Runtime& rt, const Value& self, const std::vector<std::string_view>& parts) {
  std::vector<Value> items;
  items.reserve(parts.size());
  for (std::string_view part : parts) items.push_back(Like(rt, self, part));
  return rt.List(std::move(items));
}

template <bool kFromRight>
Value MethodSplit(Runtime& rt, const Value& self, const Args& args) {
  const BoundArgs bound("split", args, {"sep", "maxsplit"});
  const std::string& text = SelfText(rt, self);
  const int64_t limit = bound.Int(1, -1);
  std::vector<std::string_view> parts;
  if (!bound.HasValue(0)) {
    (kFromRight ? SplitSpaceFromRight : SplitSpace)(text, limit, &parts);
  } else {
    const std::string& separator = bound.RequireText(0);
    if (separator.empty()) Fail("empty separator");
    (kFromRight ? SplitOnFromRight : SplitOn)(text, separator, limit, &parts);
  }
  return ListOf(rt, self, parts);
}

Value MethodSplitLines(Runtime& rt, const Value& self, const Args& args) {
  const BoundArgs bound("splitlines", args, {"keepends"});
  return ListOf(rt, self, SplitLines(SelfText(rt, self), bound.Bool(rt, 0, false)));
}

template <bool kFromRight>
Value MethodPartition(Runtime& rt, const Value& self, const Args& args) {
  const BoundArgs bound("partition", args, {"sep"}, 1);
  const std::string_view text = SelfText(rt, self);
  const std::string& separator = bound.RequireText(0);
  if (separator.empty()) Fail("empty separator");
  const size_t at = kFromRight ? text.rfind(separator) : text.find(separator);
  const Value empty = Like(rt, self, std::string_view());
  if (at == text.npos) {
    return kFromRight ? rt.Tuple({empty, empty, self}) : rt.Tuple({self, empty, empty});
  }
  return rt.Tuple({Like(rt, self, text.substr(0, at)), Like(rt, self, std::string_view(separator)),
                   Like(rt, self, text.substr(at + separator.size()))});
}

// ---- Searching. `start` and `end` count code points, as slices do.

struct Window {
  std::string_view text;
  int64_t start = 0;  // in code points of the whole text
  bool valid = true;  // false when `start` lies behind the end
};

Window WindowOf(std::string_view text, const BoundArgs& bound) {
  if (!bound.HasValue(1) && !bound.HasValue(2)) return {text, 0, true};
  const auto size = static_cast<int64_t>(CountCodePoints(text));
  const auto clamp = [&](size_t index, int64_t fallback) {
    int64_t at = bound.HasValue(index) ? bound.Int(index, 0) : fallback;
    if (at < 0) at = std::max(at, -size) + size;
    return at;
  };
  const int64_t start = clamp(1, 0);
  const int64_t end = std::min(clamp(2, size), size);
  if (start > end) return {{}, start, false};
  const size_t first = OffsetOfCodePoint(text, static_cast<size_t>(start));
  const size_t last = OffsetOfCodePoint(text, static_cast<size_t>(end));
  return {text.substr(first, last - first), start, true};
}

template <bool kFromRight, bool kMustBeThere>
Value MethodFind(Runtime& rt, const Value& self, const Args& args) {
  const BoundArgs bound(kMustBeThere ? "index" : "find", args, {"sub", "start", "end"}, 1);
  const Window window = WindowOf(SelfText(rt, self), bound);
  const std::string& part = bound.RequireText(0);
  const size_t at = kFromRight ? window.text.rfind(part) : window.text.find(part);
  if (!window.valid || at == window.text.npos) {
    if (kMustBeThere) Fail("substring not found");
    return -1;
  }
  return window.start + static_cast<int64_t>(CountCodePoints(window.text.substr(0, at)));
}

Value MethodCount(Runtime& rt, const Value& self, const Args& args) {
  const BoundArgs bound("count", args, {"sub", "start", "end"}, 1);
  const Window window = WindowOf(SelfText(rt, self), bound);
  const std::string& part = bound.RequireText(0);
  if (!window.valid) return 0;
  if (part.empty()) return static_cast<int64_t>(CountCodePoints(window.text)) + 1;
  int64_t count = 0;
  for (size_t at = window.text.find(part); at != window.text.npos;
       at = window.text.find(part, at + part.size())) {
    ++count;
  }
  return count;
}

template <bool kEnd>
Value MethodStartsWith(Runtime& rt, const Value& self, const Args& args) {
  const BoundArgs bound(kEnd ? "endswith" : "startswith", args, {"prefix", "start", "end"}, 1);
  const Window window = WindowOf(self.text(), bound);
  const auto matches = [&](std::string_view part) {
    return window.valid && (kEnd ? window.text.ends_with(part) : window.text.starts_with(part));
  };
  if (bound[0].is_sequence() && bound[0].sequence().is_tuple()) {
    for (const Value& part : bound[0].sequence().items) {
      if (!part.is_string()) Fail("a tuple for startswith or endswith must hold str only");
      if (matches(part.text())) return true;
    }
    return false;
  }
  return matches(bound.RequireText(0));
}

// ---- Building.

Value MethodReplace(Runtime& rt, const Value& self, const Args& args) {
  const BoundArgs bound("replace", args, {"old", "new", "count"}, 2);
  const std::string& text = SelfText(rt, self);
  const std::string& from = bound.RequireText(0);
  const std::string& to = bound.RequireText(1);
  int64_t left = bound.Int(2, -1);
  if (left < 0) left = INT64_MAX;
  std::string out;
  size_t at = 0;
  if (from.empty()) {
    while (left-- > 0) {
      out += to;
      if (at >= text.size()) break;
      const size_t start = at;
      DecodeAt(text, &at);
      out.append(text, start, at - start);
      rt.CheckSize(out.size());
    }
    out.append(text, at);
    return Like(rt, self, std::move(out));
  }
  for (size_t next = text.find(from); next != text.npos && left-- > 0; next = text.find(from, at)) {
    out.append(text, at, next - at);
    out += to;
    rt.CheckSize(out.size());
    at = next + from.size();
  }
  out.append(text, at);
  return Like(rt, self, std::move(out));
}

Value MethodJoin(Runtime& rt, const Value& self, const Args& args) {
  const BoundArgs bound("join", args, {"iterable"}, 1);
  if (!IsIterable(bound[0])) Fail("can only join an iterable");
  std::string out;
  int64_t index = 0;
  for (const Value& item : Iterate(rt, bound[0])) {
    if (!item.is_string()) {
      Fail("sequence item {}: expected str instance, {} found", index, TypeName(item));
    }
    if (index++ > 0) out += self.text();
    rt.CheckSize(out.size() + item.text().size());
    rt.StepBytes(item.text().size() + self.text().size());
    out += item.text();
  }
  return Like(rt, self, std::move(out));
}

std::string_view FillOf(const BoundArgs& bound) {
  if (!bound.Has(1)) return " ";
  const std::string& fill = bound.RequireText(1);
  if (CountCodePoints(fill) != 1) Fail("the fill character must be exactly one character long");
  return fill;
}

// Text padded to `width` code points; `left` and `right` say where the fill goes.
Value Padded(Runtime& rt, const Value& self, const Args& args, bool left, bool right) {
  const BoundArgs bound("center", args, {"width", "fillchar"}, 1);
  const std::string& text = SelfText(rt, self);
  const int64_t width = bound.Int(0, 0);
  const std::string_view fill = FillOf(bound);
  const auto length = static_cast<int64_t>(CountCodePoints(text));
  const int64_t margin = width - length;
  if (margin <= 0) return self;
  rt.CheckSize(static_cast<uint64_t>(margin));
  int64_t before = left ? margin : 0;
  if (left && right) before = margin / 2 + (margin & width & 1);
  std::string out;
  for (int64_t i = 0; i < before; ++i) out += fill;
  out += text;
  for (int64_t i = before; i < margin; ++i) out += fill;
  return Like(rt, self, std::move(out));
}

Value MethodCenter(Runtime& rt, const Value& self, const Args& args) {
  return Padded(rt, self, args, true, true);
}
Value MethodLeftJustify(Runtime& rt, const Value& self, const Args& args) {
  return Padded(rt, self, args, false, true);
}
Value MethodRightJustify(Runtime& rt, const Value& self, const Args& args) {
  return Padded(rt, self, args, true, false);
}

Value MethodZeroFill(Runtime& rt, const Value& self, const Args& args) {
  const BoundArgs bound("zfill", args, {"width"}, 1);
  const std::string& text = SelfText(rt, self);
  const int64_t margin = bound.Int(0, 0) - static_cast<int64_t>(CountCodePoints(text));
  if (margin <= 0) return self;
  rt.CheckSize(static_cast<uint64_t>(margin));
  const bool sign = !text.empty() && (text[0] == '-' || text[0] == '+');
  return Like(
      rt, self,
      text.substr(0, sign) + std::string(static_cast<size_t>(margin), '0') + text.substr(sign));
}

Value MethodExpandTabs(Runtime& rt, const Value& self, const Args& args) {
  const BoundArgs bound("expandtabs", args, {"tabsize"});
  const int64_t size = std::clamp<int64_t>(bound.Int(0, 8), 0, 1 << 20);
  const std::string& text = SelfText(rt, self);
  std::string out;
  int64_t column = 0;
  for (char c : text) {
    if (c == '\t') {
      const int64_t fill = size == 0 ? 0 : size - column % size;
      out.append(static_cast<size_t>(fill), ' ');
      column += fill;
      rt.CheckSize(out.size());
      continue;
    }
    out.push_back(c);
    if ((static_cast<unsigned char>(c) & 0xC0) != 0x80) ++column;
    if (c == '\n' || c == '\r') column = 0;
  }
  return Like(rt, self, std::move(out));
}

template <bool kSuffix>
Value MethodRemoveAffix(Runtime& rt, const Value& self, const Args& args) {
  const BoundArgs bound("removeprefix", args, {"affix"}, 1);
  std::string_view text = SelfText(rt, self);
  const std::string& affix = bound.RequireText(0);
  if (affix.empty()) return self;
  if (kSuffix && text.ends_with(affix)) text.remove_suffix(affix.size());
  if (!kSuffix && text.starts_with(affix)) text.remove_prefix(affix.size());
  return Like(rt, self, text);
}

Value MethodFormat(Runtime& rt, const Value& self, const Args& args) {
  return Like(rt, self, BraceFormat(rt, SelfText(rt, self), args));
}

Value MethodFormatMap(Runtime& rt, const Value& self, const Args& args) {
  const BoundArgs bound("format_map", args, {"mapping"}, 1);
  if (!bound[0].is_dict()) Fail("format_map() takes a dict, not {}", TypeName(bound[0]));
  Args named;
  for (const auto& [key, value] : bound[0].dict().entries) {
    if (key.is_string()) named.named.emplace_back(key.text(), value);
  }
  return Like(rt, self, BraceFormat(rt, SelfText(rt, self), named));
}

// ---- Questions.

bool IsAscii(uint32_t code) { return code < 0x80; }

// True when every character passes; the empty text gives `empty`.
template <bool (*kClass)(uint32_t), bool kEmpty>
Value MethodAll(Runtime& rt, const Value& self, const Args& args) {
  const std::string& text = SelfText(rt, self);
  if (text.empty()) return kEmpty;
  for (size_t i = 0; i < text.size();) {
    if (!kClass(DecodeAt(text, &i))) return false;
  }
  return true;
}

template <bool kUpper>
Value MethodIsCase(Runtime& rt, const Value& self, const Args& args) {
  return FindPredicate(kUpper ? "upper" : "lower")->holds(rt, self, args);
}

Value MethodIsTitle(Runtime& rt, const Value& self, const Args& args) {
  const std::string& text = SelfText(rt, self);
  bool after_cased = false;
  bool any = false;
  for (size_t i = 0; i < text.size();) {
    const uint32_t code = DecodeAt(text, &i);
    const bool starts = IsUpper(code) || IsTitle(code);
    if (starts ? after_cased : IsLower(code) && !after_cased) return false;
    after_cased = starts || IsLower(code);
    any |= after_cased;
  }
  return any;
}

Value MethodIsIdentifier(Runtime& rt, const Value& self, const Args& args) {
  const std::string& text = SelfText(rt, self);
  for (size_t i = 0; i < text.size();) {
    const bool first = i == 0;
    const uint32_t code = DecodeAt(text, &i);
    if (!(code == '_' || IsAlpha(code) || (!first && IsDecimal(code)))) return false;
  }
  return !text.empty();
}

constexpr Function kMethods[] = {
    {"capitalize", Converted<Capitalize>},
    {"casefold", Converted<CaseFold>},
    {"center", MethodCenter},
    {"count", MethodCount},
    {"endswith", MethodStartsWith<true>},
    {"expandtabs", MethodExpandTabs},
    {"find", MethodFind<false, false>},
    {"format", MethodFormat},
    {"format_map", MethodFormatMap},
    {"index", MethodFind<false, true>},
    {"isalnum", MethodAll<IsAlnum, false>},
    {"isalpha", MethodAll<IsAlpha, false>},
    {"isascii", MethodAll<IsAscii, true>},
    {"isdecimal", MethodAll<IsDecimal, false>},
    {"isdigit", MethodAll<IsDigit, false>},
    {"isidentifier", MethodIsIdentifier},
    {"islower", MethodIsCase<false>},
    {"isnumeric", MethodAll<IsNumeric, false>},
    {"isprintable", MethodAll<IsPrintable, true>},
    {"isspace", MethodAll<IsSpace, false>},
    {"istitle", MethodIsTitle},
    {"isupper", MethodIsCase<true>},
    {"join", MethodJoin},
    {"ljust", MethodLeftJustify},
    {"lower", Converted<ToLower>},
    {"lstrip", MethodStrip<true, false>},
    {"partition", MethodPartition<false>},
    {"removeprefix", MethodRemoveAffix<false>},
    {"removesuffix", MethodRemoveAffix<true>},
    {"replace", MethodReplace},
    {"rfind", MethodFind<true, false>},
    {"rindex", MethodFind<true, true>},
    {"rjust", MethodRightJustify},
    {"rpartition", MethodPartition<true>},
    {"rsplit", MethodSplit<true>},
    {"rstrip", MethodStrip<false, true>},
    {"split", MethodSplit<false>},
    {"splitlines", MethodSplitLines},
    {"startswith", MethodStartsWith<false>},
    {"strip", MethodStrip<true, true>},
    {"swapcase", Converted<SwapCase>},
    {"title", Converted<ToTitle>},
    {"upper", Converted<ToUpper>},
    {"zfill", MethodZeroFill},
};

}  // namespace

std::span<const Function> StringMethods() { return kMethods; }

}  // namespace trireme::jinja
