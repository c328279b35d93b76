// SPDX-License-Identifier: Apache-2.0
// The tests of `x is ...`. Constant table; calls draw on one render's budget.
#include "text/jinja_filters.h"
#include "text/jinja_operators.h"
#include "text/jinja_unicode.h"

namespace trireme::jinja {
namespace {

const Value& Argument(const Args& args, std::string_view test) {
  if (args.positional.size() != 1 || !args.named.empty())
    Fail("the test '{}' takes one argument", test);
  return args.positional[0];
}

template <Op kOp>
bool Compares(Runtime& rt, const Value& value, const Args& args) {
  return Compare(rt, kOp, value, Argument(args, "comparison"));
}

bool DivisibleBy(Runtime& rt, const Value& value, const Value& number) {
  return Equals(rt, Binary(rt, Op::kMod, value, number), 0);
}

bool IsOdd(Runtime& rt, const Value& value, const Args& args) {
  return Equals(rt, Binary(rt, Op::kMod, value, 2), 1);
}

bool IsEven(Runtime& rt, const Value& value, const Args& args) { return DivisibleBy(rt, value, 2); }

bool IsDivisibleBy(Runtime& rt, const Value& value, const Args& args) {
  const BoundArgs bound("divisibleby", args, {"num"}, 1);
  return DivisibleBy(rt, value, bound[0]);
}

// str.isupper() and str.islower(): a cased character, and none of the other case.
bool HasOnlyCase(std::string_view text, bool upper) {
  bool any = false;
  for (size_t i = 0; i < text.size();) {
    const uint32_t code = DecodeAt(text, &i);
    if (upper ? IsLower(code) : IsUpper(code)) return false;
    if (IsTitle(code)) return false;
    any |= upper ? IsUpper(code) : IsLower(code);
  }
  return any;
}

bool IsLowerText(Runtime& rt, const Value& value, const Args& args) {
  return HasOnlyCase(Str(rt, value), false);
}
bool IsUpperText(Runtime& rt, const Value& value, const Args& args) {
  return HasOnlyCase(Str(rt, value), true);
}

bool IsInteger(Runtime& rt, const Value& value, const Args& args) {
  return value.type() == Type::kInt || value.type() == Type::kBigInt;
}
bool IsNumber(Runtime& rt, const Value& value, const Args& args) {
  return value.is_number() || value.type() == Type::kBigInt;
}
bool IsSequence(Runtime& rt, const Value& value, const Args& args) {
  if (value.is_sequence()) return value.sequence().is_indexable();
  // Undefined has a length and a __getitem__, so Jinja takes it for a sequence.
  return value.is_string() || value.is_dict() || value.is_undefined();
}
bool IsCallable(Runtime& rt, const Value& value, const Args& args) {
  // Undefined has a __call__, so Python calls it callable.
  return value.is_undefined() || (value.is_custom() && value.custom().IsCallable());
}
bool IsIn(Runtime& rt, const Value& value, const Args& args) {
  return Contains(rt, Argument(args, "in"), value);
}
bool IsSameAs(Runtime& rt, const Value& value, const Args& args) {
  return IsSame(value, Argument(args, "sameas"));
}
bool IsFilterName(Runtime& rt, const Value& value, const Args& args) {
  return value.is_string() && FindFilter(value.text()) != nullptr;
}
bool IsTestName(Runtime& rt, const Value& value, const Args& args) {
  return value.is_string() && FindPredicate(value.text()) != nullptr;
}

#define TRIREME_TYPE_TEST(Name, condition) \
  bool Name(Runtime& rt, const Value& value, const Args& args) { return condition; }
TRIREME_TYPE_TEST(IsDefined, !value.is_undefined())
TRIREME_TYPE_TEST(IsUndefined, value.is_undefined())
TRIREME_TYPE_TEST(IsNone, value.is_none())
TRIREME_TYPE_TEST(IsBoolean, value.is_bool())
TRIREME_TYPE_TEST(IsTrue, value.is_bool() && value.bool_value())
TRIREME_TYPE_TEST(IsFalse, value.is_bool() && !value.bool_value())
TRIREME_TYPE_TEST(IsFloat, value.is_float())
TRIREME_TYPE_TEST(IsString, value.is_string())
TRIREME_TYPE_TEST(IsMapping, value.is_dict())
TRIREME_TYPE_TEST(IsIterableValue, IsIterable(value))
TRIREME_TYPE_TEST(IsEscaped, value.markup())
#undef TRIREME_TYPE_TEST

constexpr Predicate kPredicates[] = {
    {"odd", IsOdd},
    {"even", IsEven},
    {"divisibleby", IsDivisibleBy},
    {"defined", IsDefined},
    {"undefined", IsUndefined},
    {"filter", IsFilterName},
    {"test", IsTestName},
    {"none", IsNone},
    {"boolean", IsBoolean},
    {"false", IsFalse},
    {"true", IsTrue},
    {"integer", IsInteger},
    {"float", IsFloat},
    {"lower", IsLowerText},
    {"upper", IsUpperText},
    {"string", IsString},
    {"mapping", IsMapping},
    {"number", IsNumber},
    {"sequence", IsSequence},
    {"iterable", IsIterableValue},
    {"callable", IsCallable},
    {"sameas", IsSameAs},
    {"escaped", IsEscaped},
    {"in", IsIn},
    {"==", Compares<Op::kEq>},
    {"eq", Compares<Op::kEq>},
    {"equalto", Compares<Op::kEq>},
    {"!=", Compares<Op::kNe>},
    {"ne", Compares<Op::kNe>},
    {">", Compares<Op::kGt>},
    {"gt", Compares<Op::kGt>},
    {"greaterthan", Compares<Op::kGt>},
    {"ge", Compares<Op::kGe>},
    {">=", Compares<Op::kGe>},
    {"<", Compares<Op::kLt>},
    {"lt", Compares<Op::kLt>},
    {"lessthan", Compares<Op::kLt>},
    {"<=", Compares<Op::kLe>},
    {"le", Compares<Op::kLe>},
};

}  // namespace

const Predicate* FindPredicate(std::string_view name) {
  for (const Predicate& predicate : kPredicates) {
    if (predicate.name == name) return &predicate;
  }
  return nullptr;
}

}  // namespace trireme::jinja
