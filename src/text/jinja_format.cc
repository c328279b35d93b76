// SPDX-License-Identifier: Apache-2.0
// `text % arguments` and text.format(...), as Python's str has them. One thread per render.
#include <algorithm>
#include <charconv>
#include <cmath>

#include "text/jinja_filters.h"
#include "text/jinja_unicode.h"

namespace trireme::jinja {
namespace {

// What both kinds of formatting come down to.
struct Spec {
  std::string fill = " ";
  char align = 0;  // '<', '>', '^', '=' or 0 for the type's own
  char sign = '-';
  bool alternate = false;
  bool zero = false;
  char group = 0;  // ',' or '_'
  int64_t width = 0;
  int64_t precision = -1;
  char type = 0;
};

constexpr int64_t kMaxWidth = 1 << 20;

int64_t CheckedWidth(int64_t width) {
  if (width > kMaxWidth) FailLimit(fmt::format("a format is wider than {}", kMaxWidth));
  return width;
}

// Digits at the front of `text`; -1 when there are none.
int64_t TakeNumber(std::string_view* text) {
  if (text->empty() || (*text)[0] < '0' || (*text)[0] > '9') return -1;
  int64_t number = 0;
  while (!text->empty() && (*text)[0] >= '0' && (*text)[0] <= '9') {
    number = CheckedWidth(number * 10 + ((*text)[0] - '0'));
    text->remove_prefix(1);
  }
  return number;
}

std::string Pad(const Spec& spec, std::string_view sign, std::string_view body, char own_align) {
  const auto length = static_cast<int64_t>(sign.size() + CountCodePoints(body));
  const int64_t margin = std::max<int64_t>(spec.width - length, 0);
  const char align = spec.align != 0 ? spec.align : own_align;
  const int64_t before = align == '>' ? margin : align == '^' ? margin / 2 : 0;
  std::string out;
  const auto fill = [&](int64_t count) {
    for (int64_t i = 0; i < count; ++i) out += spec.fill;
  };
  fill(before);
  out += sign;
  if (align == '=') fill(margin);
  out += body;
  if (align != '=') fill(margin - before);
  return out;
}

std::string Grouped(const std::string& digits, char group, size_t size) {
  if (group == 0) return digits;
  const size_t whole = std::min(digits.find_first_of(".e"), digits.size());
  std::string out;
  for (size_t i = 0; i < whole; ++i) {
    if (i > 0 && (whole - i) % size == 0) out += group;
    out += digits[i];
  }
  return out + digits.substr(whole);
}

std::string_view SignText(bool negative, char sign) {
  if (negative) return "-";
  return sign == '+' ? "+" : sign == ' ' ? " " : "";
}

std::string FormatInt(const Spec& spec, int64_t value) {
  const uint64_t magnitude =
      value < 0 ? 0 - static_cast<uint64_t>(value) : static_cast<uint64_t>(value);
  std::string digits;
  std::string prefix;
  switch (spec.type) {
    case 'x': digits = fmt::format("{:x}", magnitude), prefix = "0x"; break;
    case 'X': digits = fmt::format("{:X}", magnitude), prefix = "0X"; break;
    case 'o': digits = fmt::format("{:o}", magnitude), prefix = "0o"; break;
    case 'b': digits = fmt::format("{:b}", magnitude), prefix = "0b"; break;
    default: digits = fmt::format("{}", magnitude); break;
  }
  if (spec.precision > static_cast<int64_t>(digits.size())) {
    digits.insert(0, static_cast<size_t>(spec.precision) - digits.size(), '0');
  }
  digits = Grouped(digits, spec.group, prefix.empty() ? 3 : 4);
  std::string sign(SignText(value < 0, spec.sign));
  if (spec.alternate) sign += prefix;
  return Pad(spec, sign, digits, '>');
}

// %g and the like: fmt follows the C rules that Python's take over.
std::string FloatDigits(const Spec& spec, double magnitude) {
  const int precision = spec.precision < 0 ? 6 : static_cast<int>(spec.precision);
  switch (spec.type) {
    case 'f': return fmt::format("{:.{}f}", magnitude, precision);
    case 'F': return fmt::format("{:.{}F}", magnitude, precision);
    case 'e': return fmt::format("{:.{}e}", magnitude, precision);
    case 'E': return fmt::format("{:.{}E}", magnitude, precision);
    case 'g':
      return spec.alternate ? fmt::format("{:#.{}g}", magnitude, precision)
                            : fmt::format("{:.{}g}", magnitude, precision);
    case 'G':
      return spec.alternate ? fmt::format("{:#.{}G}", magnitude, precision)
                            : fmt::format("{:.{}G}", magnitude, precision);
    case '%': return fmt::format("{:.{}f}%", magnitude * 100, precision);
    default: break;
  }
  if (spec.precision < 0) return FloatRepr(magnitude);
  std::string digits = fmt::format("{:.{}g}", magnitude, std::max(precision, 1));
  if (digits.find_first_of(".en") == std::string::npos) digits += ".0";
  return digits;
}

std::string FormatFloat(const Spec& spec, double value) {
  const bool negative = std::signbit(value) && !std::isnan(value);
  std::string digits = std::isfinite(value) ? FloatDigits(spec, std::fabs(value))
                       : std::isnan(value)  ? "nan"
                                            : "inf";
  if (spec.type == 'F' || spec.type == 'E' || spec.type == 'G') digits = ToUpper(digits);
  return Pad(spec, SignText(negative, spec.sign), Grouped(digits, spec.group, 3), '>');
}

std::string FormatText(const Spec& spec, std::string_view text) {
  if (spec.precision >= 0) {
    text = text.substr(0, OffsetOfCodePoint(text, static_cast<size_t>(spec.precision)));
  }
  return Pad(spec, "", text, '<');
}

// ---- The % operator.

class PercentFormatter {
 public:
  PercentFormatter(Runtime& rt, std::string_view format, const Value& arguments)
      : rt_(rt), rest_(format), arguments_(arguments) {
    is_tuple_ = arguments.is_sequence() && arguments.sequence().is_tuple();
  }

  std::string Run() {
    std::string out;
    while (!rest_.empty()) {
      const size_t percent = rest_.find('%');
      out += rest_.substr(0, percent);
      if (percent == rest_.npos) break;
      rest_.remove_prefix(percent + 1);
      FormatOne(&out);
      rt_.Step();
      rt_.CheckSize(out.size());
    }
    const size_t given = is_tuple_ ? arguments_.sequence().items.size() : 1;
    if (next_ < given && !IsMappingLike()) {
      Fail("not all arguments converted during string formatting");
    }
    return out;
  }

 private:
  // What Python lets pass unused: all that has items, strings and tuples excepted.
  bool IsMappingLike() const {
    return arguments_.is_dict() || arguments_.is_undefined() ||
           (arguments_.is_sequence() && !is_tuple_ && arguments_.sequence().is_indexable());
  }

  Value NextArgument() {
    if (is_tuple_) {
      if (next_ >= arguments_.sequence().items.size())
        Fail("not enough arguments for format string");
      return arguments_.sequence().items[next_++];
    }
    if (next_++ > 0) Fail("not enough arguments for format string");
    return arguments_;
  }

  // "(name)" of the conversion, looked up.
  Value MappedArgument() {
    const size_t end = rest_.find(')');
    if (end == rest_.npos) Fail("incomplete format key");
    if (!arguments_.is_dict()) Fail("format requires a mapping");
    const std::string_view name = rest_.substr(1, end - 1);
    const Value* found = arguments_.dict().Find(name);
    if (found == nullptr) Fail("the mapping of a format has no key '{}'", name);
    rest_.remove_prefix(end + 1);
    return *found;
  }

  int64_t TakeWidth() {
    if (rest_.starts_with('*')) {
      rest_.remove_prefix(1);
      return CheckedWidth(RequireInt(NextArgument()));
    }
    return TakeNumber(&rest_);
  }

  void FormatOne(std::string* out) {
    std::optional<Value> value;
    if (rest_.starts_with('(')) value = MappedArgument();
    Spec spec;
    for (; !rest_.empty(); rest_.remove_prefix(1)) {
      const char flag = rest_[0];
      if (flag == '-') {
        spec.align = '<';
      } else if (flag == '+' || (flag == ' ' && spec.sign != '+')) {
        spec.sign = flag;
      } else if (flag == '0') {
        spec.zero = true;
      } else if (flag == '#') {
        spec.alternate = true;
      } else if (flag != ' ') {
        break;
      }
    }
    int64_t width = TakeWidth();
    if (width < -1) {
      spec.align = '<';
      width = -width;
    }
    spec.width = std::max<int64_t>(width, 0);
    if (rest_.starts_with('.')) {
      rest_.remove_prefix(1);
      spec.precision = std::max<int64_t>(TakeWidth(), 0);
    }
    while (rest_.starts_with('l') || rest_.starts_with('h') || rest_.starts_with('L')) {
      rest_.remove_prefix(1);
    }
    if (rest_.empty()) Fail("incomplete format");
    spec.type = rest_[0];
    rest_.remove_prefix(1);
    if (spec.type == '%') {
      out->push_back('%');
      return;
    }
    if (!value) value = NextArgument();
    *out += Convert(spec, *value);
  }

  std::string Convert(Spec spec, const Value& value) {
    if (spec.align == 0) spec.align = '>';
    const bool is_text =
        spec.type == 's' || spec.type == 'r' || spec.type == 'a' || spec.type == 'c';
    if (spec.zero && !is_text && spec.align == '>') {
      spec.fill = "0";
      spec.align = '=';
    }
    switch (spec.type) {
      case 's': return FormatText(spec, Str(rt_, value));
      case 'r':
      case 'a': return FormatText(spec, Repr(rt_, value));
      case 'c': return FormatCharacter(spec, value);
      case 'd':
      case 'i':
      case 'u': spec.type = 'd'; return ConvertInt(spec, value);
      case 'x':
      case 'X':
      case 'o':
        if (!value.is_integral()) FailNumber(value, "an integer is required");
        return FormatInt(spec, value.int_value());
      case 'e':
      case 'E':
      case 'f':
      case 'F':
      case 'g':
      case 'G': return FormatFloat(spec, RequireNumber(value));
      default: Fail("unsupported format character '{}'", spec.type);
    }
  }

  [[noreturn]] void FailNumber(const Value& value, std::string_view what) {
    Fail("a % format: {}, not {}", what, TypeName(value));
  }

  std::string ConvertInt(const Spec& spec, const Value& value) {
    if (!value.is_number()) FailNumber(value, "a real number is required");
    const Value number = ToInt(rt_, value, 10, 0);
    if (!number.is_integral()) Fail("an integer grows beyond 64 bits");
    return FormatInt(spec, number.int_value());
  }

  std::string FormatCharacter(const Spec& spec, const Value& value) {
    if (value.is_integral()) {
      const int64_t code = value.int_value();
      if (code < 0 || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) {
        Fail("%c takes a character's number, not {}", code);
      }
      std::string text;
      AppendCodePoint(static_cast<uint32_t>(code), &text);
      return FormatText(spec, text);
    }
    if (!value.is_string() || CountCodePoints(value.text()) != 1)
      FailNumber(value, "%c takes one character");
    return FormatText(spec, value.text());
  }

  Runtime& rt_;
  std::string_view rest_;
  const Value& arguments_;
  bool is_tuple_ = false;
  size_t next_ = 0;
};

// ---- str.format.

Spec ParseSpec(std::string_view text) {
  Spec spec;
  const auto is_align = [](char c) { return c == '<' || c == '>' || c == '^' || c == '='; };
  const std::string_view all = text;
  const auto take = [&](char c) {
    if (!text.starts_with(c)) return false;
    text.remove_prefix(1);
    return true;
  };
  if (!text.empty()) {
    size_t first = 0;
    DecodeAt(text, &first);
    if (first < text.size() && is_align(text[first])) {
      spec.fill = text.substr(0, first);
      text.remove_prefix(first);
    }
  }
  if (!text.empty() && is_align(text[0])) {
    spec.align = text[0];
    text.remove_prefix(1);
  }
  if (!text.empty() && (text[0] == '+' || text[0] == '-' || text[0] == ' ')) {
    spec.sign = text[0];
    text.remove_prefix(1);
  }
  spec.alternate = take('#');
  if (take('0') && spec.align == 0) {
    spec.zero = true;
    spec.fill = "0";
    spec.align = '=';
  }
  spec.width = std::max<int64_t>(TakeNumber(&text), 0);
  if (!text.empty() && (text[0] == ',' || text[0] == '_')) {
    spec.group = text[0];
    text.remove_prefix(1);
  }
  if (take('.')) {
    spec.precision = TakeNumber(&text);
    if (spec.precision < 0) Fail("Format specifier missing precision");
  }
  if (text.size() == 1) {
    spec.type = text[0];
  } else if (!text.empty()) {
    Fail("Invalid format specifier '{}'", all);
  }
  return spec;
}

class BraceFormatter {
 public:
  BraceFormatter(Runtime& rt, const Args& args) : rt_(rt), args_(args) {}

  std::string Run(std::string_view format, int depth) {
    if (depth > 2) Fail("Max string recursion exceeded");
    std::string out;
    size_t i = 0;
    while (i < format.size()) {
      const char c = format[i];
      if ((c == '{' || c == '}') && i + 1 < format.size() && format[i + 1] == c) {
        out += c;
        i += 2;
        continue;
      }
      if (c == '}') Fail("Single '}}' encountered in format string");
      if (c != '{') {
        out += c;
        ++i;
        continue;
      }
      const size_t end = FieldEnd(format, i + 1);
      out += Field(format.substr(i + 1, end - i - 1), depth);
      rt_.Step();
      rt_.CheckSize(out.size());
      i = end + 1;
    }
    return out;
  }

 private:
  static size_t FieldEnd(std::string_view format, size_t at) {
    int open = 1;
    for (; at < format.size(); ++at) {
      if (format[at] == '{') ++open;
      if (format[at] == '}' && --open == 0) return at;
    }
    Fail("Single '{{' encountered in format string");
  }

  std::string Field(std::string_view field, int depth) {
    const size_t name_end = std::min(field.find_first_of("!:"), field.size());
    std::string_view name = field.substr(0, name_end);
    std::string_view rest = field.substr(name_end);
    Value value = Lookup(name);
    if (rest.starts_with('!')) {
      if (rest.size() < 2) Fail("end of string while looking for conversion specifier");
      const char conversion = rest[1];
      if (conversion == 's')
        value = rt_.String(Str(rt_, value));
      else if (conversion == 'r' || conversion == 'a')
        value = rt_.String(Repr(rt_, value));
      else
        Fail("Unknown conversion specifier '{}'", conversion);
      rest.remove_prefix(2);
    }
    if (rest.empty()) return FormatWithSpec(rt_, value, "");
    if (rest[0] != ':') Fail("expected ':' after conversion specifier");
    return FormatWithSpec(rt_, value, Run(rest.substr(1), depth + 1));
  }

  Value Lookup(std::string_view name) {
    size_t end = std::min(name.find_first_of(".["), name.size());
    Value value = First(name.substr(0, end));
    name.remove_prefix(end);
    while (!name.empty()) {
      if (name[0] == '.') {
        end = std::min(name.find_first_of(".[", 1), name.size());
        value = GetAttribute(rt_, value, rt_.String(name.substr(1, end - 1)));
        name.remove_prefix(end);
        continue;
      }
      end = name.find(']');
      if (name[0] != '[' || end == name.npos) Fail("Missing ']' in format string");
      value = GetItem(rt_, value, Key(name.substr(1, end - 1)));
      name.remove_prefix(end + 1);
    }
    return value;
  }

  Value Key(std::string_view text) {
    int64_t index = 0;
    const auto result = std::from_chars(text.data(), text.data() + text.size(), index);
    const bool is_index = !text.empty() && text[0] != '-' && result.ec == std::errc() &&
                          result.ptr == text.data() + text.size();
    return is_index ? Value(index) : rt_.String(text);
  }

  Value First(std::string_view name) {
    const Value key = name.empty() ? Value(next_++) : Key(name);
    if (key.is_integral()) {
      const auto index = static_cast<uint64_t>(key.int_value());
      if (index >= args_.positional.size()) {
        Fail("Replacement index {} out of range for positional args tuple", index);
      }
      return args_.positional[index];
    }
    for (const auto& [given, value] : args_.named) {
      if (given == name) return value;
    }
    Fail("format() has no argument '{}'", name);
  }

  Runtime& rt_;
  const Args& args_;
  int64_t next_ = 0;
};

}  // namespace

std::string PercentFormat(Runtime& rt, std::string_view format, const Value& arguments) {
  return PercentFormatter(rt, format, arguments).Run();
}

std::string BraceFormat(Runtime& rt, std::string_view format, const Args& args) {
  return BraceFormatter(rt, args).Run(format, 0);
}

std::string FormatWithSpec(Runtime& rt, const Value& value, std::string_view text) {
  if (text.empty()) return Str(rt, value);
  Spec spec = ParseSpec(text);
  constexpr std::string_view kIntTypes = "bcdoxXn";
  constexpr std::string_view kFloatTypes = "eEfFgGn%";
  const bool is_float_type = spec.type != 0 && kFloatTypes.find(spec.type) != kFloatTypes.npos;
  if (value.is_float() || (value.is_integral() && is_float_type)) {
    if (spec.type != 0 && !is_float_type) {
      Fail("Unknown format code '{}' for object of type 'float'", spec.type);
    }
    if (spec.type == 'n') spec.type = 'g';
    return FormatFloat(spec, value.float_value());
  }
  const bool plain_bool = value.is_bool() && spec.type == 0;
  if (value.is_integral() && !plain_bool) {
    if (spec.type != 0 && kIntTypes.find(spec.type) == kIntTypes.npos) {
      Fail("Unknown format code '{}' for object of type 'int'", spec.type);
    }
    if (spec.precision >= 0) Fail("Precision not allowed in integer format specifier");
    if (spec.type == 'c') return PercentFormat(rt, "%c", value);
    return FormatInt(spec, value.int_value());
  }
  if (!value.is_string() && !plain_bool) {
    Fail("unsupported format string passed to {}.__format__", TypeName(value));
  }
  if (spec.type != 0 && spec.type != 's') {
    Fail("Unknown format code '{}' for object of type 'str'", spec.type);
  }
  if (plain_bool) return FormatInt(spec, value.int_value());
  if (spec.zero) spec.align = '<';
  return FormatText(spec, value.text());
}

}  // namespace trireme::jinja
