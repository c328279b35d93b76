// SPDX-License-Identifier: Apache-2.0
// Filters that make text. Constant table; calls draw on one render's budget.
#include <algorithm>

#include "text/jinja_filters.h"
#include "text/jinja_unicode.h"

namespace trireme::jinja {

std::string EscapeHtml(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (char c : text) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '\'': out += "&#39;"; break;
      case '"': out += "&#34;"; break;
      default: out.push_back(c);
    }
  }
  return out;
}

Value Escape(Runtime& rt, const Value& value) {
  if (value.markup()) return value;
  return rt.String(EscapeHtml(Str(rt, value)), true);
}

namespace {

// The text a filter works on: str() of anything.
std::string Text(Runtime& rt, const Value& value) { return Str(rt, value); }

template <std::string (*kConvert)(std::string_view)>
Value Converted(Runtime& rt, const Value& value, const Args& args) {
  BoundArgs("filter", args, {});
  return rt.String(kConvert(Text(rt, value)), value.markup());
}

Value FilterEscape(Runtime& rt, const Value& value, const Args& args) { return Escape(rt, value); }

Value FilterForceEscape(Runtime& rt, const Value& value, const Args& args) {
  return rt.String(EscapeHtml(Text(rt, value)), true);
}

Value FilterSafe(Runtime& rt, const Value& value, const Args& args) {
  return rt.String(Text(rt, value), true);
}

Value FilterString(Runtime& rt, const Value& value, const Args& args) {
  return value.is_string() ? value : rt.String(Text(rt, value));
}

bool StartsWord(uint32_t code) {
  return code == '-' || code == '(' || code == '{' || code == '[' || code == '<' || IsSpace(code);
}

std::string TitleWords(std::string_view text) {
  std::string out;
  std::string word;
  const auto flush = [&] {
    if (word.empty()) return;
    size_t first = 0;
    DecodeAt(word, &first);
    out += ToUpper(std::string_view(word).substr(0, first));
    out += ToLower(std::string_view(word).substr(first));
    word.clear();
  };
  for (size_t i = 0; i < text.size();) {
    const size_t start = i;
    const uint32_t code = DecodeAt(text, &i);
    if (StartsWord(code)) {
      flush();
      out.append(text.substr(start, i - start));
    } else {
      word.append(text.substr(start, i - start));
    }
  }
  flush();
  return out;
}

Value FilterTrim(Runtime& rt, const Value& value, const Args& args) {
  const BoundArgs bound("trim", args, {"chars"});
  const std::string text = Text(rt, value);
  if (!bound.HasValue(0)) return rt.String(std::string(StripSpace(text)), value.markup());
  const std::string& chars = bound.RequireText(0);
  if (chars.empty()) return rt.String(text, value.markup());
  return rt.String(std::string(Strip(text, chars, true, true)), value.markup());
}

Value FilterReplace(Runtime& rt, const Value& value, const Args& args) {
  const BoundArgs bound("replace", args, {"old", "new", "count"}, 2);
  Args method_args;
  method_args.positional = {rt.String(Text(rt, bound[0])), rt.String(Text(rt, bound[1]))};
  if (bound.HasValue(2)) method_args.positional.push_back(bound[2]);
  bool forbidden = false;
  const Value text = rt.String(Text(rt, value));
  return FindMethod(text, "replace", &forbidden)->call(rt, text, method_args);
}

Value FilterCenter(Runtime& rt, const Value& value, const Args& args) {
  const BoundArgs bound("center", args, {"width"});
  Args method_args;
  method_args.positional = {bound.Int(0, 80)};
  bool forbidden = false;
  const Value text = rt.String(Text(rt, value));
  return FindMethod(text, "center", &forbidden)->call(rt, text, method_args);
}

const std::string& RequireInput(const Value& value, std::string_view filter) {
  if (value.is_undefined()) Fail(value.undefined().Message());
  if (!value.is_string()) Fail("the filter '{}' takes str, not {}", filter, TypeName(value));
  return value.text();
}

Value FilterIndent(Runtime& rt, const Value& value, const Args& args) {
  const BoundArgs bound("indent", args, {"width", "first", "blank"});
  std::string indent;
  if (bound.Has(0) && bound[0].is_string()) {
    indent = bound[0].text();
  } else {
    const int64_t width = std::max<int64_t>(bound.Int(0, 4), 0);
    rt.CheckSize(static_cast<uint64_t>(width));
    indent.assign(static_cast<size_t>(width), ' ');
  }
  const bool blank = bound.Bool(rt, 2, false);
  const std::string text = RequireInput(value, "indent") + "\n";
  std::string out = bound.Bool(rt, 1, false) ? indent : "";
  bool is_first = true;
  for (std::string_view line : SplitLines(text, false)) {
    if (!is_first) {
      out += '\n';
      if (blank || !line.empty()) out += indent;
    }
    is_first = false;
    out += line;
    rt.CheckSize(out.size());
  }
  return rt.String(std::move(out), value.markup());
}

Value FilterTruncate(Runtime& rt, const Value& value, const Args& args) {
  const BoundArgs bound("truncate", args, {"length", "killwords", "end", "leeway"});
  const int64_t length = bound.Int(0, 255);
  const std::string end = bound.Text(rt, 2, "...");
  const auto end_length = static_cast<int64_t>(CountCodePoints(end));
  const int64_t leeway = bound.HasValue(3) ? bound.Int(3, 5) : 5;
  if (length < end_length) Fail("expected length >= {}, got {}", end_length, length);
  if (leeway < 0) Fail("expected leeway >= 0, got {}", leeway);
  // Anything with a length may be short enough; only text can be cut.
  const std::optional<int64_t> own_length = Length(rt, value);
  if (!own_length) Fail("object of type '{}' has no len()", TypeName(value));
  if (*own_length - leeway <= length) return value;
  const std::string& text = RequireInput(value, "truncate");
  std::string_view kept = std::string_view(text).substr(
      0, OffsetOfCodePoint(text, static_cast<size_t>(length - end_length)));
  if (!bound.Bool(rt, 1, false)) kept = kept.substr(0, kept.rfind(' '));
  return rt.String(std::string(kept) + end);
}

Value FilterWordCount(Runtime& rt, const Value& value, const Args& args) {
  const std::string text = Text(rt, value);
  int64_t count = 0;
  bool in_word = false;
  for (size_t i = 0; i < text.size();) {
    const bool is_word = IsWord(DecodeAt(text, &i));
    count += is_word && !in_word;
    in_word = is_word;
  }
  return count;
}

Value FilterFormat(Runtime& rt, const Value& value, const Args& args) {
  if (!args.positional.empty() && !args.named.empty()) {
    Fail("can't handle positional and keyword arguments at the same time");
  }
  const std::string format = Text(rt, value);
  if (args.named.empty()) {
    return rt.String(PercentFormat(rt, format, rt.Tuple(args.positional)), value.markup());
  }
  Value names = rt.NewDict();
  for (const auto& [name, argument] : args.named) names.dict().Set(rt, rt.String(name), argument);
  rt.SealDict(names);
  return rt.String(PercentFormat(rt, format, names), value.markup());
}

// Code point of the entity at `text` ("&...;"), and its length; 0 when it is none.
std::pair<uint32_t, size_t> ParseEntity(std::string_view text) {
  static constexpr std::pair<std::string_view, uint32_t> kNamed[] = {
      {"&amp;", '&'},  {"&lt;", '<'},    {"&gt;", '>'},
      {"&quot;", '"'}, {"&apos;", '\''}, {"&nbsp;", 0xA0}};
  for (const auto& [name, code] : kNamed) {
    if (text.starts_with(name)) return {code, name.size()};
  }
  if (!text.starts_with("&#")) return {0, 0};
  const bool hex = text.size() > 2 && (text[2] | 0x20) == 'x';
  uint32_t code = 0;
  size_t i = hex ? 3 : 2;
  const size_t first = i;
  for (; i < text.size() && i < first + 7; ++i) {
    const char c = text[i];
    const int digit = c >= '0' && c <= '9'                            ? c - '0'
                      : hex && (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10
                                                                      : -1;
    if (digit < 0) break;
    code = code * (hex ? 16 : 10) + static_cast<uint32_t>(digit);
  }
  const bool valid = i > first && i < text.size() && text[i] == ';' && code > 0 &&
                     code <= 0x10FFFF && !(code >= 0xD800 && code <= 0xDFFF);
  return valid ? std::pair{code, i + 1} : std::pair<uint32_t, size_t>{0, 0};
}

Value FilterStripTags(Runtime& rt, const Value& value, const Args& args) {
  const std::string text = Text(rt, value);
  std::string plain;
  for (size_t i = 0; i < text.size();) {
    const bool comment = std::string_view(text).substr(i).starts_with("<!--");
    const size_t end = text[i] == '<' ? text.find(comment ? "-->" : ">", i) : std::string::npos;
    if (end != std::string::npos) {
      i = end + (comment ? 3 : 1);
      continue;
    }
    plain.push_back(text[i++]);
  }
  std::string out;
  bool space = false;
  for (size_t i = 0; i < plain.size();) {
    const size_t start = i;
    const uint32_t code = DecodeAt(plain, &i);
    if (IsSpace(code)) {
      space = true;
      continue;
    }
    if (space && !out.empty()) out.push_back(' ');
    space = false;
    const auto [entity, length] = code == '&' ? ParseEntity(std::string_view(plain).substr(start))
                                              : std::pair<uint32_t, size_t>{0, 0};
    if (length > 0) {
      AppendCodePoint(entity, &out);
      i = start + length;
    } else {
      out.append(plain, start, i - start);
    }
  }
  return rt.String(std::move(out));
}

std::string QuoteUrl(std::string_view text, bool query) {
  std::string out;
  for (char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '_' || c == '.' || c == '-' || c == '~' || (c == '/' && !query);
    if (plain) {
      out.push_back(c);
    } else if (c == ' ' && query) {
      out.push_back('+');
    } else {
      out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return out;
}

Value FilterUrlEncode(Runtime& rt, const Value& value, const Args& args) {
  if (value.is_string() || !IsIterable(value)) {
    return rt.String(QuoteUrl(Text(rt, value), false));
  }
  std::string out;
  const auto add = [&](const Value& key, const Value& item) {
    if (!out.empty()) out.push_back('&');
    out += QuoteUrl(Text(rt, key), true) + "=" + QuoteUrl(Text(rt, item), true);
    rt.CheckSize(out.size());
  };
  if (value.is_dict()) {
    for (const auto& [key, item] : value.dict().entries) add(key, item);
    return rt.String(std::move(out));
  }
  for (const Value& pair : Iterate(rt, value)) {
    const std::vector<Value> two = Iterate(rt, pair);
    if (two.size() != 2) Fail("urlencode takes pairs, got an item of length {}", two.size());
    add(two[0], two[1]);
  }
  return rt.String(std::move(out));
}

Value FilterXmlAttr(Runtime& rt, const Value& value, const Args& args) {
  const BoundArgs bound("xmlattr", args, {"autospace"});
  if (!value.is_dict()) Fail("the filter 'xmlattr' takes a dict, not {}", TypeName(value));
  std::string out;
  for (const auto& [key, item] : value.dict().entries) {
    if (item.is_none() || item.is_undefined()) continue;
    const std::string name = Text(rt, key);
    if (name.find_first_of(" \t\n\r\f\v/>=") != std::string::npos) {
      Fail("invalid character in attribute name '{}'", name);
    }
    if (!out.empty()) out.push_back(' ');
    out += EscapeHtml(name) + "=\"" + Escape(rt, item).text() + "\"";
    rt.CheckSize(out.size());
  }
  if (bound.Bool(rt, 0, true) && !out.empty()) out.insert(0, " ");
  return rt.String(std::move(out));
}

Value FilterAttr(Runtime& rt, const Value& value, const Args& args) {
  const BoundArgs bound("attr", args, {"name"}, 1);
  const Value name = rt.String(bound.RequireText(0));
  std::optional<Value> found = FindAttribute(rt, value, name.text());
  return found ? *found : rt.UndefinedAttribute(value, name);
}

Value FilterRefused(Runtime& rt, const Value& value, const Args& args) {
  throw Error{
      StatusCode::kUnimplemented,
      "the filters random, pprint, urlize and wordwrap are not supported in chat templates"};
}

constexpr Filter kFilters[] = {
    {"attr", FilterAttr},
    {"capitalize", Converted<Capitalize>},
    {"center", FilterCenter},
    {"e", FilterEscape},
    {"escape", FilterEscape},
    {"forceescape", FilterForceEscape},
    {"format", FilterFormat},
    {"indent", FilterIndent},
    {"lower", Converted<ToLower>},
    {"pprint", FilterRefused},
    {"random", FilterRefused},
    {"replace", FilterReplace},
    {"safe", FilterSafe},
    {"string", FilterString},
    {"striptags", FilterStripTags},
    {"title", Converted<TitleWords>},
    {"tojson", ToJson},
    {"trim", FilterTrim},
    {"truncate", FilterTruncate},
    {"upper", Converted<ToUpper>},
    {"urlencode", FilterUrlEncode},
    {"urlize", FilterRefused},
    {"wordcount", FilterWordCount},
    {"wordwrap", FilterRefused},
    {"xmlattr", FilterXmlAttr},
};

}  // namespace

std::span<const Filter> StringFilters() { return kFilters; }

}  // namespace trireme::jinja
