// SPDX-License-Identifier: Apache-2.0
// Arithmetic, comparison, membership, attribute and item access. One thread per render.
#include "text/jinja_operators.h"

#include <algorithm>
#include <cmath>

#include "text/jinja_eval.h"
#include "text/jinja_filters.h"
#include "text/jinja_unicode.h"

namespace trireme::jinja {
namespace {

void FailIfUndefined(const Value& value) {
  if (value.is_undefined()) Fail(value.undefined().Message());
}

[[noreturn]] void FailOperands(std::string_view op, const Value& a, const Value& b) {
  FailIfUndefined(a);
  FailIfUndefined(b);
  Fail("unsupported operand type(s) for {}: '{}' and '{}'", op, TypeName(a), TypeName(b));
}

[[noreturn]] void FailOverflow() { Fail("an integer grows beyond 64 bits"); }

Value Subtract(const Value& a, const Value& b) {
  if (!a.is_number() || !b.is_number()) FailOperands("-", a, b);
  if (a.is_float() || b.is_float()) return a.float_value() - b.float_value();
  int64_t result;
  if (__builtin_sub_overflow(a.int_value(), b.int_value(), &result)) FailOverflow();
  return result;
}

Value Divide(const Value& a, const Value& b) {
  if (!a.is_number() || !b.is_number()) FailOperands("/", a, b);
  if (b.float_value() == 0) Fail("division by zero");
  return a.float_value() / b.float_value();
}

double FloorModulo(double x, double y) {
  double rest = std::fmod(x, y);
  if (rest != 0) {
    if ((y < 0) != (rest < 0)) rest += y;
  } else {
    rest = std::copysign(0.0, y);
  }
  return rest;
}

Value FloorDivide(const Value& a, const Value& b) {
  if (!a.is_number() || !b.is_number()) FailOperands("//", a, b);
  if (b.float_value() == 0) Fail("integer division or modulo by zero");
  if (a.is_float() || b.is_float()) {
    const double x = a.float_value();
    const double y = b.float_value();
    return std::round((x - FloorModulo(x, y)) / y);
  }
  const int64_t x = a.int_value();
  const int64_t y = b.int_value();
  if (x == INT64_MIN && y == -1) FailOverflow();
  const int64_t quotient = x / y;
  return quotient - ((x % y != 0 && (x < 0) != (y < 0)) ? 1 : 0);
}

Value Modulo(Runtime& rt, const Value& a, const Value& b) {
  if (a.is_string()) return rt.String(PercentFormat(rt, a.text(), b), a.markup());
  if (!a.is_number() || !b.is_number()) FailOperands("%", a, b);
  if (b.float_value() == 0) Fail("integer division or modulo by zero");
  if (a.is_float() || b.is_float()) return FloorModulo(a.float_value(), b.float_value());
  const int64_t y = b.int_value();
  if (y == -1) return 0;
  const int64_t rest = a.int_value() % y;
  return rest != 0 && (rest < 0) != (y < 0) ? rest + y : rest;
}

Value Power(const Value& a, const Value& b) {
  if (!a.is_number() || !b.is_number()) FailOperands("** or pow()", a, b);
  if (a.is_float() || b.is_float() || b.int_value() < 0) {
    if (a.float_value() == 0 && b.float_value() < 0) {
      Fail("0.0 cannot be raised to a negative power");
    }
    if (a.float_value() < 0 && b.float_value() != std::floor(b.float_value())) {
      Fail("a negative number cannot be raised to a fractional power");
    }
    return std::pow(a.float_value(), b.float_value());
  }
  int64_t result = 1;
  int64_t base = a.int_value();
  if (base == 0 || base == 1) return b.int_value() == 0 ? int64_t{1} : base;
  if (base == -1) return b.int_value() % 2 == 0 ? 1 : -1;
  if (b.int_value() > 64) FailOverflow();
  for (int64_t i = 0; i < b.int_value(); ++i) {
    if (__builtin_mul_overflow(result, base, &result)) FailOverflow();
  }
  return result;
}

Value AddStrings(Runtime& rt, const Value& a, const Value& b) {
  // Text next to text marked safe is escaped, as Markup does.
  if (a.markup() != b.markup()) {
    return AddStrings(rt, a.markup() ? a : Escape(rt, a), b.markup() ? b : Escape(rt, b));
  }
  rt.CheckSize(a.text().size() + b.text().size());
  std::string text;
  text.reserve(a.text().size() + b.text().size());
  text.append(a.text()).append(b.text());
  return rt.String(std::move(text), a.markup());
}

Value AddSequences(Runtime& rt, const Value& a, const Value& b) {
  std::vector<Value> items = Iterate(rt, a);
  for (Value& item : Iterate(rt, b)) items.push_back(std::move(item));
  return a.sequence().is_tuple() ? rt.Tuple(std::move(items)) : rt.List(std::move(items));
}

}  // namespace

Value Negative(const Value& value) {
  FailIfUndefined(value);
  if (value.is_float()) return -value.float_value();
  if (!value.is_integral()) Fail("bad operand type for unary -: '{}'", TypeName(value));
  if (value.int_value() == INT64_MIN) FailOverflow();
  return -value.int_value();
}

Value Positive(const Value& value) {
  FailIfUndefined(value);
  if (value.is_float()) return value;
  if (!value.is_integral()) Fail("bad operand type for unary +: '{}'", TypeName(value));
  return value.int_value();
}

Value Add(Runtime& rt, const Value& a, const Value& b) {
  if (a.is_string() && b.is_string()) return AddStrings(rt, a, b);
  if (a.is_integral() && b.is_integral()) {
    int64_t result;
    if (__builtin_add_overflow(a.int_value(), b.int_value(), &result)) FailOverflow();
    return result;
  }
  if (a.is_number() && b.is_number()) return a.float_value() + b.float_value();
  if (a.is_sequence() && b.is_sequence()) {
    const SequenceObject& x = a.sequence();
    const SequenceObject& y = b.sequence();
    const bool lists = x.kind == SequenceKind::kList && y.kind == SequenceKind::kList;
    if (lists || (x.is_tuple() && y.is_tuple())) return AddSequences(rt, a, b);
  }
  FailIfUndefined(a);
  FailIfUndefined(b);
  if (a.is_string()) Fail("can only concatenate str (not \"{}\") to str", TypeName(b));
  if (a.is_sequence() && a.sequence().kind == SequenceKind::kList) {
    Fail("can only concatenate list (not \"{}\") to list", TypeName(b));
  }
  FailOperands("+", a, b);
}

Value Multiply(Runtime& rt, const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral()) {
    int64_t result;
    if (__builtin_mul_overflow(a.int_value(), b.int_value(), &result)) FailOverflow();
    return result;
  }
  if (a.is_number() && b.is_number()) return a.float_value() * b.float_value();
  const Value& many = a.is_integral() ? b : a;
  const Value& times = a.is_integral() ? a : b;
  if (!times.is_integral()) FailOperands("*", a, b);
  const auto count = static_cast<uint64_t>(std::max<int64_t>(times.int_value(), 0));
  if (many.is_string()) {
    const std::string& text = many.text();
    if (!text.empty()) rt.CheckSize(std::min(count, kMaxOutputBytes + 1) * text.size());
    std::string result;
    if (!text.empty()) result.reserve(count * text.size());
    for (uint64_t i = 0; i < count && !text.empty(); ++i) result += text;
    return rt.String(std::move(result), many.markup());
  }
  if (!many.is_sequence() || (many.sequence().kind != SequenceKind::kList &&
                              many.sequence().kind != SequenceKind::kTuple)) {
    FailOperands("*", a, b);
  }
  const std::vector<Value>& items = many.sequence().items;
  std::vector<Value> result;
  if (!items.empty()) rt.Step(std::min(count, kMaxSteps) * items.size());
  for (uint64_t i = 0; i < count && !items.empty(); ++i) {
    rt.CheckSize(result.size() * sizeof(Value));
    result.insert(result.end(), items.begin(), items.end());
  }
  return rt.Sequence(many.sequence().kind, std::move(result));
}

Value Binary(Runtime& rt, Op op, const Value& a, const Value& b) {
  switch (op) {
    case Op::kAdd: return Add(rt, a, b);
    case Op::kSub: return Subtract(a, b);
    case Op::kMul: return Multiply(rt, a, b);
    case Op::kDiv: return Divide(a, b);
    case Op::kFloorDiv: return FloorDivide(a, b);
    case Op::kMod: return Modulo(rt, a, b);
    default: return Power(a, b);
  }
}

bool Compare(Runtime& rt, Op op, const Value& a, const Value& b) {
  switch (op) {
    case Op::kEq: return Equals(rt, a, b);
    case Op::kNe: return !Equals(rt, a, b);
    case Op::kLt: return Less(rt, a, b, "<");
    case Op::kGt: return Less(rt, b, a, ">");
    case Op::kLe: return Less(rt, a, b, "<=") || Equals(rt, a, b);
    case Op::kGe: return Less(rt, b, a, ">=") || Equals(rt, a, b);
    case Op::kIn: return Contains(rt, b, a);
    case Op::kNotIn: return !Contains(rt, b, a);
    default: return false;
  }
}

bool Contains(Runtime& rt, const Value& container, const Value& item) {
  switch (container.type()) {
    case Type::kString:
      if (!item.is_string()) {
        Fail("'in <string>' requires string as left operand, not {}", TypeName(item));
      }
      rt.StepBytes(container.text().size());
      return container.text().find(item.text()) != std::string::npos;
    case Type::kDict: return container.dict().Find(rt, item) != nullptr;
    case Type::kUndefined: return false;
    case Type::kSequence: {
      for (const Value& candidate : Iterate(rt, container)) {
        if (Equals(rt, candidate, item)) return true;
      }
      return false;
    }
    default: Fail("argument of type '{}' is not iterable", TypeName(container));
  }
}

// ---- Attributes and items.

std::optional<Value> FindAttribute(Runtime& rt, const Value& object, std::string_view name) {
  if (object.is_custom()) return object.custom().GetAttribute(rt, name);
  if (object.is_sequence() && object.sequence().kind == SequenceKind::kGroup) {
    if (name == "grouper") return object.sequence().items[0];
    if (name == "list") return object.sequence().items[1];
  }
  bool forbidden = false;
  if (const Function* method = FindMethod(object, name, &forbidden)) {
    return MakeFunction(rt, object, method);
  }
  if (forbidden) {
    return rt.Undefined(
        fmt::format("access to attribute '{}' of '{}' object is unsafe.", name, TypeName(object)));
  }
  return std::nullopt;
}

namespace {

// What `object[key]` finds.
std::optional<Value> FindItem(Runtime& rt, const Value& object, const Value& key) {
  if (object.is_dict()) {
    const bool unhashable = key.is_dict() || (key.is_sequence() && !key.sequence().is_tuple());
    const Value* value = unhashable ? nullptr : object.dict().Find(rt, key);
    return value == nullptr ? std::nullopt : std::optional<Value>(*value);
  }
  if (!key.is_integral()) return std::nullopt;
  int64_t index = key.int_value();
  if (object.is_sequence() && object.sequence().is_indexable()) {
    const std::vector<Value>& items = object.sequence().items;
    const auto size = static_cast<int64_t>(items.size());
    if (index < 0) index += size;
    if (index < 0 || index >= size) return std::nullopt;
    return items[static_cast<size_t>(index)];
  }
  if (!object.is_string()) return std::nullopt;
  const std::string& text = object.text();
  const int64_t size = *Length(rt, object);
  if (index < 0) index += size;
  if (index < 0 || index >= size) return std::nullopt;
  const bool ascii = static_cast<size_t>(size) == text.size();
  const size_t start =
      ascii ? static_cast<size_t>(index) : OffsetOfCodePoint(text, static_cast<size_t>(index));
  size_t end = start;
  DecodeAt(text, &end);
  return rt.String(text.substr(start, end - start), object.markup());
}

}  // namespace

Value GetAttribute(Runtime& rt, const Value& object, const Value& name) {
  FailIfUndefined(object);
  if (std::optional<Value> value = FindAttribute(rt, object, name.text())) return *value;
  if (std::optional<Value> value = FindItem(rt, object, name)) return *value;
  return rt.UndefinedAttribute(object, name);
}

Value GetItem(Runtime& rt, const Value& object, const Value& key) {
  FailIfUndefined(object);
  if (std::optional<Value> value = FindItem(rt, object, key)) return *value;
  if (key.is_string()) {
    if (std::optional<Value> value = FindAttribute(rt, object, key.text())) return *value;
  }
  return rt.UndefinedAttribute(object, key);
}

namespace {

struct SliceBounds {
  int64_t start;
  int64_t step;
  int64_t count;
};

int64_t SliceIndex(const Value& value) {
  FailIfUndefined(value);
  if (!value.is_integral()) Fail("slice indices must be integers or None");
  return value.int_value();
}

SliceBounds ResolveSlice(int64_t size, const Value& start, const Value& stop, const Value& step) {
  SliceBounds bounds;
  bounds.step = step.is_none() ? 1 : SliceIndex(step);
  if (bounds.step == 0) Fail("slice step cannot be zero");
  bounds.step = std::clamp<int64_t>(bounds.step, -INT64_MAX / 4, INT64_MAX / 4);
  const bool forward = bounds.step > 0;
  auto clamp = [&](const Value& value, int64_t fallback) {
    if (value.is_none()) return fallback;
    int64_t index = SliceIndex(value);
    if (index < 0) index = std::max(index, -size - 1) + size;
    return std::clamp<int64_t>(index, forward ? 0 : -1, forward ? size : size - 1);
  };
  bounds.start = clamp(start, forward ? 0 : size - 1);
  const int64_t end = clamp(stop, forward ? size : -1);
  const int64_t distance = forward ? end - bounds.start : bounds.start - end;
  const int64_t stride = forward ? bounds.step : -bounds.step;
  bounds.count = distance <= 0 ? 0 : (distance - 1) / stride + 1;
  return bounds;
}

Value SliceText(Runtime& rt, const Value& object, const Value& start, const Value& stop,
                const Value& step) {
  const std::string& text = object.text();
  const int64_t size = *Length(rt, object);
  const SliceBounds bounds = ResolveSlice(size, start, stop, step);
  if (bounds.count == 0) return rt.String(std::string(), object.markup());
  if (bounds.step == 1) {
    const size_t first = OffsetOfCodePoint(text, static_cast<size_t>(bounds.start));
    const std::string_view rest = std::string_view(text).substr(first);
    const size_t length = OffsetOfCodePoint(rest, static_cast<size_t>(bounds.count));
    return rt.String(std::string(rest.substr(0, length)), object.markup());
  }
  std::vector<uint32_t> offsets;
  offsets.reserve(static_cast<size_t>(size));
  rt.Step(static_cast<uint64_t>(size) / 8);
  for (size_t i = 0; i < text.size();) {
    offsets.push_back(static_cast<uint32_t>(i));
    DecodeAt(text, &i);
  }
  std::string result;
  for (int64_t i = 0; i < bounds.count; ++i) {
    size_t end = offsets[static_cast<size_t>(bounds.start + i * bounds.step)];
    const size_t begin = end;
    DecodeAt(text, &end);
    result.append(text, begin, end - begin);
  }
  return rt.String(std::move(result), object.markup());
}

}  // namespace

Value GetSlice(Runtime& rt, const Value& object, const Value& start, const Value& stop,
               const Value& step) {
  FailIfUndefined(object);
  if (object.is_string()) return SliceText(rt, object, start, stop, step);
  if (!object.is_sequence() || !object.sequence().is_indexable()) {
    if (object.is_dict()) Fail("unhashable type: 'slice'");
    Fail("'{}' object is not subscriptable", TypeName(object));
  }
  const std::vector<Value>& items = object.sequence().items;
  const SliceBounds bounds = ResolveSlice(static_cast<int64_t>(items.size()), start, stop, step);
  std::vector<Value> result;
  result.reserve(static_cast<size_t>(bounds.count));
  rt.Step(static_cast<uint64_t>(bounds.count));
  for (int64_t i = 0; i < bounds.count; ++i) {
    result.push_back(items[static_cast<size_t>(bounds.start + i * bounds.step)]);
  }
  const SequenceKind kind = object.sequence().kind;
  return rt.Sequence(kind == SequenceKind::kGroup ? SequenceKind::kTuple : kind, std::move(result));
}

Value Call(Runtime& rt, const Value& callee, const Args& args) {
  FailIfUndefined(callee);
  if (!callee.is_custom()) Fail("'{}' object is not callable", TypeName(callee));
  return callee.custom().Call(rt, args);
}

}  // namespace trireme::jinja
