// SPDX-License-Identifier: Apache-2.0
// Filters, tests, functions and methods by name. The tables are constant, thread-safe.
#pragma once

#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja_runtime.h"
#include "text/jinja_value.h"

namespace trireme::jinja {

struct Filter {
  std::string_view name;
  Value (*apply)(Runtime& rt, const Value& value, const Args& args);
};
struct Predicate {
  std::string_view name;
  bool (*holds)(Runtime& rt, const Value& value, const Args& args);
};
// A method of str, list or dict, or a global function, whose `self` is none.
struct Function {
  std::string_view name;
  Value (*call)(Runtime& rt, const Value& self, const Args& args);
};

const Filter* FindFilter(std::string_view name);
const Predicate* FindPredicate(std::string_view name);
const Function* FindGlobal(std::string_view name);
// Null when the type has no such method. `*forbidden` is set for one that would change its object.
const Function* FindMethod(const Value& self, std::string_view name, bool* forbidden);

// The tables, a file each.
std::span<const Filter> StringFilters();
std::span<const Filter> SequenceFilters();
std::span<const Filter> NumberFilters();
std::span<const Function> StringMethods();
std::span<const Function> ContainerMethods(const Value& self);

Value MakeFunction(Runtime& rt, const Value& self, const Function* function);

// Arguments of `function` in the order of `names`; those not given are null.
// Fails on too many, unknown and repeated arguments.
class BoundArgs {
 public:
  BoundArgs(std::string_view function, const Args& args,
            std::initializer_list<std::string_view> names, size_t num_required = 0);

  bool Has(size_t index) const { return values_[index] != nullptr; }
  // Given and not none.
  bool HasValue(size_t index) const { return Has(index) && !values_[index]->is_none(); }
  const Value& operator[](size_t index) const { return *values_[index]; }
  Value Or(size_t index, Value fallback) const { return Has(index) ? *values_[index] : fallback; }
  int64_t Int(size_t index, int64_t fallback) const;
  bool Bool(Runtime& rt, size_t index, bool fallback) const;
  std::string Text(Runtime& rt, size_t index, std::string_view fallback) const;
  // The text of a string argument; fails for any other type.
  const std::string& RequireText(size_t index) const;

 private:
  std::string_view function_;
  std::vector<std::string_view> names_;
  std::vector<const Value*> values_;
};

// Shared by several of the files.
int64_t RequireInt(const Value& value);  // an int or a bool
double RequireNumber(const Value& value);
// What Python's getattr finds; nullopt when there is nothing.
std::optional<Value> FindAttribute(Runtime& rt, const Value& object, std::string_view name);
Value GetAttribute(Runtime& rt, const Value& object, const Value& name);
Value GetItem(Runtime& rt, const Value& object, const Value& key);
Value GetSlice(Runtime& rt, const Value& object, const Value& start, const Value& stop,
               const Value& step);
bool Contains(Runtime& rt, const Value& container, const Value& item);
Value Call(Runtime& rt, const Value& callee, const Args& args);
Value Add(Runtime& rt, const Value& a, const Value& b);
Value Multiply(Runtime& rt, const Value& a, const Value& b);
Value Escape(Runtime& rt, const Value& value);
std::string EscapeHtml(std::string_view text);
Value ToInt(Runtime& rt, const Value& value, int64_t base, const Value& fallback);
std::optional<double> ParseFloat(std::string_view text);
std::vector<std::string_view> SplitLines(std::string_view text, bool keep_ends);

// `format % arguments` and format.format(...): both as Python's str has them.
std::string PercentFormat(Runtime& rt, std::string_view format, const Value& arguments);
std::string BraceFormat(Runtime& rt, std::string_view format, const Args& args);
std::string FormatWithSpec(Runtime& rt, const Value& value, std::string_view spec);

// json.dumps(value, ensure_ascii=False, indent=..., separators=..., sort_keys=...)
Value ToJson(Runtime& rt, const Value& value, const Args& args);
// One JSON text to values; object order is kept. `what` names it in errors.
Value ParseJson(Runtime& rt, std::string_view text, std::string_view what);
std::string FormatTime(Runtime& rt, std::string_view format);

}  // namespace trireme::jinja
