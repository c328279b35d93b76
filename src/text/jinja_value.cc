// SPDX-License-Identifier: Apache-2.0
// Python's meaning of truth, equality, order, hash, str() and repr(). One thread per render.
#include "text/jinja_value.h"

#include <charconv>
#include <cmath>

#include "text/jinja_runtime.h"
#include "text/jinja_unicode.h"

namespace trireme::jinja {

const std::string& Value::text() const { return static_cast<StringObject*>(object_)->text; }
bool Value::markup() const { return is_string() && static_cast<StringObject*>(object_)->markup; }
SequenceObject& Value::sequence() const { return *static_cast<SequenceObject*>(object_); }
DictObject& Value::dict() const { return *static_cast<DictObject*>(object_); }
CustomObject& Value::custom() const { return *static_cast<CustomObject*>(object_); }
const UndefinedObject& Value::undefined() const { return *static_cast<UndefinedObject*>(object_); }

namespace {

Value FrozenText(Type type, std::string text) {
  auto* object = new StringObject;
  object->text = std::move(text);
  Value value(type, object);
  object->refs = 1 | Object::kFrozen;
  return value;
}

}  // namespace

// The parser's constant pool deletes frozen objects with the template.
Value Value::FrozenString(std::string text) { return FrozenText(Type::kString, std::move(text)); }
Value Value::FrozenBigInt(std::string digits) {
  return FrozenText(Type::kBigInt, std::move(digits));
}

std::string UndefinedObject::Message() const {
  if (!hint.empty()) return hint;
  if (owner.empty()) return fmt::format("'{}' is undefined", name.text());
  if (name.is_string()) return fmt::format("'{}' has no attribute '{}'", owner, name.text());
  std::string repr;
  if (name.type() == Type::kInt) repr = fmt::format("{}", name.int_value());
  return fmt::format("{} has no element {}", owner, repr);
}

std::string CustomObject::Repr() const { return fmt::format("<{}>", TypeName()); }

std::optional<Value> CustomObject::GetAttribute(Runtime& rt, std::string_view name) {
  return std::nullopt;
}

Value CustomObject::Call(Runtime& rt, const Args& args) {
  Fail("'{}' object is not callable", TypeName());
}

std::string_view TypeName(const Value& value) {
  switch (value.type()) {
    case Type::kNone: return "NoneType";
    case Type::kBool: return "bool";
    case Type::kInt:
    case Type::kBigInt: return "int";
    case Type::kFloat: return "float";
    case Type::kUndefined: return "Undefined";
    case Type::kString: return value.markup() ? "Markup" : "str";
    case Type::kDict: return "dict";
    case Type::kObject: return value.custom().TypeName();
    case Type::kSequence: break;
  }
  switch (value.sequence().kind) {
    case SequenceKind::kList: return "list";
    case SequenceKind::kTuple: return "tuple";
    case SequenceKind::kGroup: return "_GroupTuple";
    case SequenceKind::kRange: return "range";
    case SequenceKind::kKeys: return "dict_keys";
    case SequenceKind::kValues: return "dict_values";
    case SequenceKind::kItems: return "dict_items";
    case SequenceKind::kGenerator: return "generator";
  }
  return "object";
}

std::string OwnerName(const Value& value) {
  if (value.is_none()) return "None";
  return fmt::format("{} object", TypeName(value));
}

bool Truth(Runtime& rt, const Value& value) {
  switch (value.type()) {
    case Type::kNone:
    case Type::kUndefined: return false;
    case Type::kBool: return value.bool_value();
    case Type::kInt: return value.int_value() != 0;
    case Type::kFloat: return value.float_value() != 0;
    case Type::kBigInt: return true;
    case Type::kString: return !value.text().empty();
    case Type::kDict: return !value.dict().entries.empty();
    case Type::kSequence:
      return value.sequence().kind == SequenceKind::kGenerator || !value.sequence().items.empty();
    case Type::kObject: return value.custom().Length(rt).value_or(1) != 0;
  }
  return false;
}

namespace {

// -1, 0, 1; 2 when a NaN takes part.
int CompareNumbers(const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral()) {
    return a.int_value() < b.int_value() ? -1 : a.int_value() > b.int_value();
  }
  // long double holds every int64 and every double exactly.
  auto wide = [](const Value& v) {
    return v.is_float() ? static_cast<long double>(v.float_value())
                        : static_cast<long double>(v.int_value());
  };
  const long double x = wide(a);
  const long double y = wide(b);
  if (std::isnan(x) || std::isnan(y)) return 2;
  return x < y ? -1 : x > y;
}

bool SequencesEqual(Runtime& rt, const SequenceObject& a, const SequenceObject& b) {
  if (&a == &b) return true;
  if (a.kind == SequenceKind::kGenerator || b.kind == SequenceKind::kGenerator) return false;
  if (a.kind != b.kind && !(a.is_tuple() && b.is_tuple())) return false;
  if (a.items.size() != b.items.size()) return false;
  for (size_t i = 0; i < a.items.size(); ++i) {
    if (!Equals(rt, a.items[i], b.items[i])) return false;
  }
  return true;
}

bool DictsEqual(Runtime& rt, const DictObject& a, const DictObject& b) {
  if (&a == &b) return true;
  if (a.entries.size() != b.entries.size()) return false;
  for (const auto& [key, value] : a.entries) {
    const Value* other = b.Find(rt, key);
    if (other == nullptr || !Equals(rt, value, *other)) return false;
  }
  return true;
}

}  // namespace

bool Equals(Runtime& rt, const Value& a, const Value& b) {
  rt.Step();
  if (a.is_number() && b.is_number()) return CompareNumbers(a, b) == 0;
  if (a.type() != b.type()) return false;
  switch (a.type()) {
    case Type::kNone:
    case Type::kUndefined: return true;
    case Type::kBigInt: return a.text() == b.text();
    case Type::kString:
      if (a.text().size() != b.text().size()) return false;
      rt.StepBytes(a.text().size());
      return a.text() == b.text();
    case Type::kSequence: return SequencesEqual(rt, a.sequence(), b.sequence());
    case Type::kDict: return DictsEqual(rt, a.dict(), b.dict());
    default: return a.object() == b.object();
  }
}

bool Less(Runtime& rt, const Value& a, const Value& b, std::string_view op) {
  rt.Step();
  if (a.is_number() && b.is_number()) return CompareNumbers(a, b) == -1;
  if (a.is_string() && b.is_string()) {
    rt.StepBytes(std::min(a.text().size(), b.text().size()));
    return a.text() < b.text();  // bytes of UTF-8 order as code points do
  }
  if (a.is_undefined()) Fail(a.undefined().Message());
  if (b.is_undefined()) Fail(b.undefined().Message());
  if (a.is_sequence() && b.is_sequence()) {
    const SequenceObject& x = a.sequence();
    const SequenceObject& y = b.sequence();
    if ((x.is_tuple() && y.is_tuple()) ||
        (x.kind == SequenceKind::kList && y.kind == SequenceKind::kList)) {
      for (size_t i = 0; i < x.items.size() && i < y.items.size(); ++i) {
        if (!Equals(rt, x.items[i], y.items[i])) return Less(rt, x.items[i], y.items[i], op);
      }
      return x.items.size() < y.items.size();
    }
  }
  Fail("'{}' not supported between instances of '{}' and '{}'", op, TypeName(a), TypeName(b));
}

bool IsSame(const Value& a, const Value& b) {
  if (a.type() != b.type()) return false;
  switch (a.type()) {
    case Type::kNone: return true;
    case Type::kBool: return a.bool_value() == b.bool_value();
    case Type::kInt: return a.int_value() == b.int_value();
    case Type::kFloat: return a.float_value() == b.float_value();
    case Type::kString: return a.text() == b.text();
    default: return a.object() == b.object();
  }
}

std::string HashKey(Runtime& rt, const Value& value) {
  rt.Step();
  switch (value.type()) {
    case Type::kNone: return "n";
    case Type::kUndefined: return "u";
    case Type::kBool:
    case Type::kInt: return fmt::format("i{}", value.int_value());
    case Type::kBigInt: return "i" + value.text();
    case Type::kFloat: {
      const double number = value.float_value();
      if (number == std::floor(number) && std::fabs(number) < 9e18) {
        return fmt::format("i{}", static_cast<int64_t>(number));
      }
      return "f" + FloatRepr(number);
    }
    case Type::kString: rt.StepBytes(value.text().size()); return "s" + value.text();
    case Type::kSequence: {
      const SequenceObject& sequence = value.sequence();
      if (!sequence.is_tuple()) break;
      std::string key = "(";
      for (const Value& item : sequence.items) {
        const std::string part = HashKey(rt, item);
        key += fmt::format("{}:{}", part.size(), part);
        rt.CheckSize(key.size());
      }
      return key;
    }
    case Type::kObject: return fmt::format("p{}", static_cast<const void*>(value.object()));
    case Type::kDict: break;
  }
  Fail("unhashable type: '{}'", TypeName(value));
}

const Value* DictObject::Find(std::string_view key) const {
  if (entries.size() > kLinearEntries) {
    const auto at = index_.find(std::string("s").append(key));
    return at == index_.end() ? nullptr : &entries[at->second].second;
  }
  for (const auto& [name, value] : entries) {
    if (name.is_string() && name.text() == key) return &value;
  }
  return nullptr;
}

std::optional<size_t> DictObject::IndexOf(Runtime& rt, const Value& key) const {
  if (entries.size() > kLinearEntries || !key.is_string()) {
    const std::string hash = HashKey(rt, key);
    if (entries.size() > kLinearEntries) {
      const auto at = index_.find(hash);
      if (at == index_.end()) return std::nullopt;
      return at->second;
    }
  }
  for (size_t i = 0; i < entries.size(); ++i) {
    if (Equals(rt, entries[i].first, key)) return i;
  }
  return std::nullopt;
}

const Value* DictObject::Find(Runtime& rt, const Value& key) const {
  const std::optional<size_t> at = IndexOf(rt, key);
  return at ? &entries[*at].second : nullptr;
}

void DictObject::Set(Runtime& rt, Value key, Value value) {
  if (const std::optional<size_t> at = IndexOf(rt, key)) {
    entries[*at].second = std::move(value);
    return;
  }
  entries.emplace_back(std::move(key), std::move(value));
  if (entries.size() < kLinearEntries + 1) return;
  if (entries.size() == kLinearEntries + 1) {
    for (size_t i = 0; i < kLinearEntries; ++i) index_.emplace(HashKey(rt, entries[i].first), i);
  }
  index_.emplace(HashKey(rt, entries.back().first), entries.size() - 1);
}

std::string FloatRepr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  char buffer[64];
  const auto end =
      std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::scientific);
  std::string text(buffer, end.ptr);  // d[.ddd]e[+-]dd
  const size_t e = text.find('e');
  const int exponent = std::atoi(text.c_str() + e + 1);
  std::string sign = text[0] == '-' ? "-" : "";
  std::string digits;
  for (size_t i = sign.size(); i < e; ++i) {
    if (text[i] != '.') digits += text[i];
  }
  if (exponent < -4 || exponent >= 16) {
    std::string mantissa = digits.substr(0, 1);
    if (digits.size() > 1) mantissa += "." + digits.substr(1);
    return fmt::format("{}{}e{}{:02}", sign, mantissa, exponent < 0 ? '-' : '+',
                       std::abs(exponent));
  }
  if (exponent < 0) return sign + "0." + std::string(-exponent - 1, '0') + digits;
  const size_t whole = static_cast<size_t>(exponent) + 1;
  if (digits.size() <= whole) return sign + digits + std::string(whole - digits.size(), '0') + ".0";
  return sign + digits.substr(0, whole) + "." + digits.substr(whole);
}

void AppendStringRepr(std::string_view text, std::string* out) {
  const bool has_single = text.find('\'') != std::string_view::npos;
  const char quote = has_single && text.find('"') == std::string_view::npos ? '"' : '\'';
  out->push_back(quote);
  for (size_t i = 0; i < text.size();) {
    const size_t start = i;
    const uint32_t code = DecodeAt(text, &i);
    if (code == static_cast<uint32_t>(quote) || code == '\\') {
      out->push_back('\\');
      out->push_back(static_cast<char>(code));
    } else if (code == '\n') {
      out->append("\\n");
    } else if (code == '\r') {
      out->append("\\r");
    } else if (code == '\t') {
      out->append("\\t");
    } else if (code >= ' ' && code < 0x7F) {
      out->push_back(static_cast<char>(code));
    } else if (IsPrintable(code)) {
      out->append(text.substr(start, i - start));
    } else if (code < 0x100) {
      out->append(fmt::format("\\x{:02x}", code));
    } else if (code < 0x10000) {
      out->append(fmt::format("\\u{:04x}", code));
    } else {
      out->append(fmt::format("\\U{:08x}", code));
    }
  }
  out->push_back(quote);
}

namespace {

void AppendItems(Runtime& rt, const std::vector<Value>& items, std::string* out) {
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out->append(", ");
    AppendRepr(rt, items[i], out);
  }
}

void AppendSequenceRepr(Runtime& rt, const SequenceObject& sequence, std::string* out) {
  const std::vector<Value>& items = sequence.items;
  switch (sequence.kind) {
    case SequenceKind::kList:
      out->push_back('[');
      AppendItems(rt, items, out);
      out->push_back(']');
      return;
    case SequenceKind::kTuple:
    case SequenceKind::kGroup:
      out->push_back('(');
      AppendItems(rt, items, out);
      out->append(items.size() == 1 ? ",)" : ")");
      return;
    case SequenceKind::kRange: {
      const int64_t start = items.empty() ? 0 : items[0].int_value();
      const int64_t step = items.size() < 2 ? 1 : items[1].int_value() - start;
      const int64_t stop = items.empty() ? 0 : items.back().int_value() + (step > 0 ? 1 : -1);
      out->append(step == 1 ? fmt::format("range({}, {})", start, stop)
                            : fmt::format("range({}, {}, {})", start, stop, step));
      return;
    }
    case SequenceKind::kGenerator: out->append("<generator object>"); return;
    case SequenceKind::kKeys: out->append("dict_keys(["); break;
    case SequenceKind::kValues: out->append("dict_values(["); break;
    case SequenceKind::kItems: out->append("dict_items(["); break;
  }
  AppendItems(rt, items, out);
  out->append("])");
}

void AppendDictRepr(Runtime& rt, const DictObject& dict, std::string* out) {
  out->push_back('{');
  bool first = true;
  for (const auto& [key, value] : dict.entries) {
    if (!first) out->append(", ");
    first = false;
    AppendRepr(rt, key, out);
    out->append(": ");
    AppendRepr(rt, value, out);
  }
  out->push_back('}');
}

}  // namespace

void AppendRepr(Runtime& rt, const Value& value, std::string* out) {
  rt.Step();
  rt.CheckSize(out->size());
  switch (value.type()) {
    case Type::kUndefined: out->append("Undefined"); return;
    case Type::kString: {
      rt.StepBytes(value.text().size());
      if (value.markup()) out->append("Markup(");
      AppendStringRepr(value.text(), out);
      if (value.markup()) out->push_back(')');
      return;
    }
    case Type::kSequence: AppendSequenceRepr(rt, value.sequence(), out); return;
    case Type::kDict: AppendDictRepr(rt, value.dict(), out); return;
    default: AppendStr(rt, value, out);
  }
}

void AppendStr(Runtime& rt, const Value& value, std::string* out) {
  switch (value.type()) {
    case Type::kNone: out->append("None"); return;
    case Type::kBool: out->append(value.bool_value() ? "True" : "False"); return;
    case Type::kInt: fmt::format_to(std::back_inserter(*out), "{}", value.int_value()); return;
    case Type::kFloat: out->append(FloatRepr(value.float_value())); return;
    case Type::kUndefined: return;
    case Type::kBigInt:
    case Type::kString:
      rt.CheckSize(out->size() + value.text().size());
      rt.StepBytes(value.text().size());
      out->append(value.text());
      return;
    case Type::kObject: out->append(value.custom().Repr()); return;
    default: AppendRepr(rt, value, out);
  }
}

std::string Str(Runtime& rt, const Value& value) {
  std::string out;
  AppendStr(rt, value, &out);
  return out;
}

std::string Repr(Runtime& rt, const Value& value) {
  std::string out;
  AppendRepr(rt, value, &out);
  return out;
}

bool IsIterable(const Value& value) {
  return value.is_string() || value.is_sequence() || value.is_dict() || value.is_undefined();
}

std::vector<Value> Iterate(Runtime& rt, const Value& value) {
  std::vector<Value> items;
  if (value.is_undefined()) return items;
  if (value.is_sequence()) {
    SequenceObject& sequence = value.sequence();
    rt.Step(sequence.items.size() - sequence.position);
    items.assign(sequence.items.begin() + static_cast<ptrdiff_t>(sequence.position),
                 sequence.items.end());
    if (sequence.kind == SequenceKind::kGenerator) sequence.position = sequence.items.size();
    return items;
  }
  if (value.is_dict()) {
    rt.Step(value.dict().entries.size());
    for (const auto& [key, unused] : value.dict().entries) items.push_back(key);
    return items;
  }
  if (value.is_string()) {
    const std::string& text = value.text();
    for (size_t i = 0; i < text.size();) {
      const size_t start = i;
      DecodeAt(text, &i);
      items.push_back(rt.String(text.substr(start, i - start)));
    }
    return items;
  }
  Fail("'{}' object is not iterable", TypeName(value));
}

std::optional<int64_t> Length(Runtime& rt, const Value& value) {
  switch (value.type()) {
    case Type::kUndefined: return 0;
    case Type::kString:
      rt.StepBytes(value.text().size());
      return static_cast<int64_t>(CountCodePoints(value.text()));
    case Type::kDict: return static_cast<int64_t>(value.dict().entries.size());
    case Type::kSequence:
      if (value.sequence().kind == SequenceKind::kGenerator) return std::nullopt;
      return static_cast<int64_t>(value.sequence().items.size());
    case Type::kObject: return value.custom().Length(rt);
    default: return std::nullopt;
  }
}

}  // namespace trireme::jinja
