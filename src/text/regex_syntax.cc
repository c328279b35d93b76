// SPDX-License-Identifier: Apache-2.0
// Translation of the dialect of tokenizer.json patterns into PCRE2's. No state.
#include <algorithm>
#include <array>
#include <cctype>

#include "text/regex.h"

namespace trireme {
namespace {

constexpr std::string_view kSpaceItems =
    R"(\x{9}-\x{d}\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";
// In Latin-1 the dialect counts superscripts and fractions too.
constexpr std::string_view kWordItems =
    R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{b2}\x{b3}\x{b9}\x{bc}-\x{be})";
constexpr size_t kMaxNesting = 32;

// One pass over the pattern. `out_` holds finished text; `atom_` is where the last atom begins in
// it, for quantifiers that need the atom wrapped.
class Translator {
 public:
  explicit Translator(std::string_view pattern) : in_(pattern) {}

  StatusOr<std::string> Run() {
    while (at_ < in_.size()) TRIREME_RETURN_IF_ERROR(Step());
    return std::move(out_);
  }

 private:
  Status Bad(std::string_view what) const {
    return InvalidArgument("regular expression '{}': {} at byte {}", in_, what, at_);
  }
  bool At(std::string_view text) const { return in_.substr(at_).starts_with(text); }

  Status Step() {
    const char c = in_[at_];
    if (c == '[') {
      atom_ = out_.size();
      std::string expression;
      TRIREME_RETURN_IF_ERROR(Class(expression, 0));
      out_ += expression;
      return OkStatus();
    }
    if (c == '\\') {
      atom_ = out_.size();
      return Escape(false, out_);
    }
    if (c == '(') {
      groups_.push_back(out_.size());
      out_ += c;
      ++at_;
      if (At("?") || At("*")) out_ += in_[at_++];
      return OkStatus();
    }
    if (c == ')') {
      if (groups_.empty()) return Bad("unbalanced ')'");
      atom_ = groups_.back();
      groups_.pop_back();
    } else if (c == '{') {
      return Repeat();
    } else if (std::string_view("*+?|^$").find(c) == std::string_view::npos) {
      if ((static_cast<uint8_t>(c) & 0xc0) != 0x80) atom_ = out_.size();
    }
    out_ += c;
    ++at_;
    return OkStatus();
  }

  // "{n}", "{n,m}", "{,m}"; a '+' behind it repeats the whole, it does not make it possessive.
  Status Repeat() {
    const size_t close = in_.find('}', at_);
    const std::string_view body = close == in_.npos ? "" : in_.substr(at_ + 1, close - at_ - 1);
    const bool counts =
        !body.empty() && body != "," && std::all_of(body.begin(), body.end(), [](char c) {
          return std::isdigit(static_cast<unsigned char>(c)) != 0 || c == ',';
        });
    if (!counts) {
      atom_ = out_.size();
      out_ += "\\{";
      ++at_;
      return OkStatus();
    }
    out_ += '{';
    if (body.front() == ',') out_ += '0';
    out_ += body;
    out_ += '}';
    at_ = close + 1;
    if (At("+")) {
      out_.insert(atom_, "(?:");
      out_ += ')';
    }
    return OkStatus();
  }

  // At a backslash; appends the translation to `out`.
  Status Escape(bool in_class, std::string& out) {
    if (at_ + 1 >= in_.size()) return Bad("a lone backslash");
    const char kind = in_[at_ + 1];
    at_ += 2;
    switch (kind) {
      case 's': return Items(kSpaceItems, in_class, false, out);
      case 'w': return Items(kWordItems, in_class, false, out);
      case 'h': return Items("0-9a-fA-F", in_class, false, out);
      case 'S': return in_class ? Text("\\S", out) : Items(kSpaceItems, in_class, true, out);
      case 'W': return in_class ? Text("\\W", out) : Items(kWordItems, in_class, true, out);
      case 'p':
      case 'P': return Property(kind, out);
      case 'u': return CodeUnit(out);
      case 'x': return Braced("\\x", out);
      default: break;
    }
    out += '\\';
    out += kind;
    return OkStatus();
  }

  static Status Text(std::string_view text, std::string& out) {
    out += text;
    return OkStatus();
  }

  static Status Items(std::string_view items, bool in_class, bool negate, std::string& out) {
    if (!in_class) out += negate ? "[^" : "[";
    out += items;
    if (!in_class) out += ']';
    return OkStatus();
  }

  // "\uHHHH"
  Status CodeUnit(std::string& out) {
    const std::string_view digits = in_.substr(at_, 4);
    if (digits.size() < 4) return Bad("\\u without four digits");
    at_ += 4;
    return Text("\\x{" + std::string(digits) + "}", out);
  }

  // An escape that may carry an argument in braces.
  Status Braced(std::string_view escape, std::string& out) {
    out += escape;
    if (!At("{")) return OkStatus();
    const size_t close = in_.find('}', at_);
    if (close == in_.npos) return Bad("'{' without '}'");
    out += in_.substr(at_, close + 1 - at_);
    at_ = close + 1;
    return OkStatus();
  }

  Status Property(char kind, std::string& out) {
    out += '\\';
    out += kind;
    if (!At("{")) return OkStatus();
    const size_t close = in_.find('}', at_);
    if (close == in_.npos) return Bad("'{' without '}'");
    std::string_view name = in_.substr(at_ + 1, close - at_ - 1);
    at_ = close + 1;
    out += '{';
    if (name.starts_with('^')) {
      out += '^';
      name.remove_prefix(1);
    }
    out += PropertyName(name);
    out += '}';
    return OkStatus();
  }

  // PCRE2 reads a bare script name as the script with its extensions.
  static std::string PropertyName(std::string_view name) {
    struct Alias {
      std::string_view from, to;
    };
    constexpr std::array<Alias, 18> kAliases = {{{"Letter", "L"},
                                                 {"Mark", "M"},
                                                 {"Number", "N"},
                                                 {"Punctuation", "P"},
                                                 {"Symbol", "S"},
                                                 {"Separator", "Z"},
                                                 {"Other", "C"},
                                                 {"Uppercase_Letter", "Lu"},
                                                 {"Lowercase_Letter", "Ll"},
                                                 {"Titlecase_Letter", "Lt"},
                                                 {"Modifier_Letter", "Lm"},
                                                 {"Other_Letter", "Lo"},
                                                 {"Decimal_Number", "Nd"},
                                                 {"Alnum", "Xan"},
                                                 {"Alpha", "Alphabetic"},
                                                 {"Digit", "Nd"},
                                                 {"Lower", "Lowercase"},
                                                 {"Upper", "Uppercase"}}};
    for (const Alias& alias : kAliases)
      if (alias.from == name) return std::string(alias.to);
    constexpr std::array<std::string_view, 9> kBinary = {"Alphabetic",
                                                         "Lowercase",
                                                         "Uppercase",
                                                         "White_Space",
                                                         "Emoji",
                                                         "Ideographic",
                                                         "Extended_Pictographic",
                                                         "Emoji_Presentation",
                                                         "Any"};
    const bool category = name.size() <= 2 || name == "L&" || name.starts_with('X');
    if (category || name.find_first_of("=:") != name.npos ||
        std::find(kBinary.begin(), kBinary.end(), name) != kBinary.end())
      return std::string(name);
    return "sc:" + std::string(name);
  }

  // At '['; gives an expression that matches one character. Nested classes are united, "&&"
  // intersects what stands on its two sides.
  Status Class(std::string& expression, size_t depth) {
    if (depth > kMaxNesting) return Bad("character classes nested too deep");
    ++at_;
    const bool negate = At("^");
    if (negate) ++at_;
    std::vector<std::string> operands;  // of "&&"
    std::string items;                  // plain items of the operand at hand
    std::vector<std::string> others;    // its nested classes that are not plain
    bool first = true;
    const auto finish_operand = [&] {
      operands.push_back(Union(items, others));
      items.clear();
      others.clear();
    };
    while (true) {
      if (at_ >= in_.size()) return Bad("'[' without ']'");
      const char c = in_[at_];
      if (c == ']' && !first) break;
      first = false;
      if (At("[:")) {
        const size_t close = in_.find(":]", at_);
        if (close == in_.npos) return Bad("'[:' without ':]'");
        items += in_.substr(at_, close + 2 - at_);
        at_ = close + 2;
      } else if (c == '[') {
        std::string nested;
        TRIREME_RETURN_IF_ERROR(Class(nested, depth + 1));
        const bool plain = nested.starts_with('[') && !nested.starts_with("[^");
        if (plain)
          items += nested.substr(1, nested.size() - 2);
        else
          others.push_back(std::move(nested));
      } else if (At("&&")) {
        at_ += 2;
        finish_operand();
      } else if (c == '\\') {
        TRIREME_RETURN_IF_ERROR(Escape(true, items));
      } else {
        if (c == ']') items += '\\';
        items += c;
        ++at_;
      }
    }
    ++at_;
    finish_operand();
    if (operands.size() == 1 && operands[0].starts_with('[') && !operands[0].starts_with("[^")) {
      expression = negate ? "[^" + operands[0].substr(1) : std::move(operands[0]);
      return OkStatus();
    }
    std::string all;
    for (size_t i = 0; i + 1 < operands.size(); ++i) all += "(?=" + operands[i] + ")";
    all += operands.back();
    expression = negate ? "(?:(?!" + all + ")(?s:.))" : "(?:" + all + ")";
    return OkStatus();
  }

  static std::string Union(const std::string& items, const std::vector<std::string>& others) {
    std::string result = items.empty() ? "" : "[" + items + "]";
    if (others.empty()) return items.empty() ? "(?!)" : result;
    for (const std::string& other : others) result += (result.empty() ? "" : "|") + other;
    return "(?:" + result + ")";
  }

  std::string_view in_;
  size_t at_ = 0;
  std::string out_;
  size_t atom_ = 0;
  std::vector<size_t> groups_;
};

}  // namespace

StatusOr<std::string> TranslateRegex(std::string_view pattern) { return Translator(pattern).Run(); }

}  // namespace trireme
