// SPDX-License-Identifier: Apache-2.0
// Filters over sequences and mappings. Constant table; calls draw on one render's budget.
#include <algorithm>
#include <charconv>
#include <set>

#include "text/jinja_filters.h"
#include "text/jinja_unicode.h"

namespace trireme::jinja {
namespace {

// "a.b.0" or an integer: the steps from an item to what a filter looks at.
class AttributePath {
 public:
  AttributePath() = default;
  AttributePath(Runtime& rt, const Value& attribute) {
    if (attribute.is_none()) return;
    if (!attribute.is_string()) {
      parts_.push_back(attribute);
      return;
    }
    std::string_view rest = attribute.text();
    while (true) {
      const size_t dot = rest.find('.');
      parts_.push_back(Part(rt, rest.substr(0, dot)));
      if (dot == rest.npos) return;
      rest.remove_prefix(dot + 1);
    }
  }

  Value Get(Runtime& rt, Value item, const Value* fallback = nullptr) const {
    for (const Value& part : parts_) {
      item = GetItem(rt, item, part);
      if (fallback != nullptr && !fallback->is_none() && item.is_undefined()) item = *fallback;
    }
    return item;
  }

 private:
  static Value Part(Runtime& rt, std::string_view text) {
    int64_t index = 0;
    const auto result = std::from_chars(text.data(), text.data() + text.size(), index);
    const bool is_index = !text.empty() && text[0] != '-' && result.ec == std::errc() &&
                          result.ptr == text.data() + text.size();
    return is_index ? Value(index) : rt.String(text);
  }

  std::vector<Value> parts_;
};

Value IgnoreCase(Runtime& rt, const Value& value) {
  return value.is_string() ? rt.String(ToLower(value.text())) : value;
}

[[noreturn]] void FailNoLength(const Value& value) {
  Fail("object of type '{}' has no len()", TypeName(value));
}

Value FilterLength(Runtime& rt, const Value& value, const Args& args) {
  const std::optional<int64_t> length = Length(rt, value);
  if (!length) FailNoLength(value);
  return *length;
}

Value FilterDefault(Runtime& rt, const Value& value, const Args& args) {
  const BoundArgs bound("default", args, {"default_value", "boolean"});
  if (value.is_undefined() || (bound.Bool(rt, 1, false) && !Truth(rt, value))) {
    return bound.Has(0) ? bound[0] : rt.String(std::string());
  }
  return value;
}

Value FilterFirst(Runtime& rt, const Value& value, const Args& args) {
  if (value.is_sequence() && value.sequence().kind == SequenceKind::kGenerator) {
    SequenceObject& sequence = value.sequence();
    if (sequence.position < sequence.items.size()) return sequence.items[sequence.position++];
  } else if (value.is_string() && !value.text().empty()) {
    size_t end = 0;
    DecodeAt(value.text(), &end);
    return rt.String(value.text().substr(0, end));
  } else {
    const std::vector<Value> items = Iterate(rt, value);
    if (!items.empty()) return items[0];
  }
  return rt.Undefined("No first item, sequence was empty.");
}

void RequireReversible(const Value& value) {
  if (value.is_sequence() && value.sequence().kind == SequenceKind::kGenerator) {
    Fail("'generator' object is not reversible; put '| list' before it");
  }
}

Value FilterLast(Runtime& rt, const Value& value, const Args& args) {
  RequireReversible(value);
  if (!IsIterable(value)) Fail("'{}' object is not reversible", TypeName(value));
  const std::vector<Value> items = Iterate(rt, value);
  return items.empty() ? rt.Undefined("No last item, sequence was empty.") : items.back();
}

Value FilterList(Runtime& rt, const Value& value, const Args& args) {
  return rt.List(Iterate(rt, value));
}

Value FilterReverse(Runtime& rt, const Value& value, const Args& args) {
  std::vector<Value> items = Iterate(rt, value);
  std::reverse(items.begin(), items.end());
  if (!value.is_string()) return rt.Generator(std::move(items));
  std::string text;
  for (const Value& item : items) text += item.text();
  return rt.String(std::move(text));
}

Value FilterJoin(Runtime& rt, const Value& value, const Args& args) {
  const BoundArgs bound("join", args, {"d", "attribute"});
  const std::string separator = bound.Text(rt, 0, "");
  const AttributePath path = bound.HasValue(1) ? AttributePath(rt, bound[1]) : AttributePath();
  std::string out;
  bool first = true;
  for (const Value& item : Iterate(rt, value)) {
    if (!first) out += separator;
    first = false;
    AppendStr(rt, path.Get(rt, item), &out);
    rt.CheckSize(out.size());
    rt.StepBytes(separator.size());
  }
  return rt.String(std::move(out));
}

Value FilterItems(Runtime& rt, const Value& value, const Args& args) {
  if (value.is_undefined()) return rt.Generator({});
  if (!value.is_dict()) Fail("Can only get item pairs from a mapping.");
  std::vector<Value> items;
  for (const auto& [key, item] : value.dict().entries) items.push_back(rt.Tuple({key, item}));
  return rt.Generator(std::move(items));
}

// ---- Sorting.

struct Keyed {
  std::vector<Value> key;
  Value value;
  bool plain = false;  // the one key is compared as itself, not as a list of keys
};

// Equal values without an order (two nones) sort as parts of a list, and fail as plain keys.
bool KeyLess(Runtime& rt, const Keyed& a, const Keyed& b) {
  if (a.plain) return Less(rt, a.key[0], b.key[0]);
  for (size_t i = 0; i < a.key.size(); ++i) {
    if (!Equals(rt, a.key[i], b.key[i])) return Less(rt, a.key[i], b.key[i]);
  }
  return false;
}

void SortKeyed(Runtime& rt, std::vector<Keyed>& items, bool reverse) {
  // Reversed, not backwards: equal items keep their order either way.
  std::stable_sort(items.begin(), items.end(), [&](const Keyed& a, const Keyed& b) {
    return reverse ? KeyLess(rt, b, a) : KeyLess(rt, a, b);
  });
}

std::vector<Value> Unkeyed(std::vector<Keyed> items) {
  std::vector<Value> values;
  values.reserve(items.size());
  for (Keyed& item : items) values.push_back(std::move(item.value));
  return values;
}

Value FilterSort(Runtime& rt, const Value& value, const Args& args) {
  const BoundArgs bound("sort", args, {"reverse", "case_sensitive", "attribute"});
  const bool fold = !bound.Bool(rt, 1, false);
  std::vector<AttributePath> paths;
  if (bound.HasValue(2) && bound[2].is_string()) {
    std::string_view rest = bound[2].text();
    while (true) {
      const size_t comma = rest.find(',');
      paths.emplace_back(rt, rt.String(rest.substr(0, comma)));
      if (comma == rest.npos) break;
      rest.remove_prefix(comma + 1);
    }
  } else {
    paths.emplace_back(rt, bound.Or(2, Value()));
  }
  std::vector<Keyed> items;
  for (const Value& item : Iterate(rt, value)) {
    Keyed keyed;
    keyed.value = item;
    for (const AttributePath& path : paths) {
      const Value key = path.Get(rt, item);
      keyed.key.push_back(fold ? IgnoreCase(rt, key) : key);
    }
    items.push_back(std::move(keyed));
  }
  SortKeyed(rt, items, bound.Bool(rt, 0, false));
  return rt.List(Unkeyed(std::move(items)));
}

Value FilterDictSort(Runtime& rt, const Value& value, const Args& args) {
  const BoundArgs bound("dictsort", args, {"case_sensitive", "by", "reverse"});
  const std::string by = bound.Text(rt, 1, "key");
  if (by != "key" && by != "value") Fail("You can only sort by either \"key\" or \"value\"");
  if (!value.is_dict()) Fail("the filter 'dictsort' takes a dict, not {}", TypeName(value));
  const bool fold = !bound.Bool(rt, 0, false);
  std::vector<Keyed> items;
  for (const auto& [key, item] : value.dict().entries) {
    const Value& chosen = by == "key" ? key : item;
    items.push_back({{fold ? IgnoreCase(rt, chosen) : chosen}, rt.Tuple({key, item}), true});
  }
  SortKeyed(rt, items, bound.Bool(rt, 2, false));
  return rt.List(Unkeyed(std::move(items)));
}

Value FilterGroupBy(Runtime& rt, const Value& value, const Args& args) {
  const BoundArgs bound("groupby", args, {"attribute", "default", "case_sensitive"}, 1);
  const AttributePath path(rt, bound[0]);
  const Value fallback = bound.Or(1, Value());
  const bool fold = !bound.Bool(rt, 2, false);
  std::vector<Keyed> items;
  for (const Value& item : Iterate(rt, value)) {
    const Value key = path.Get(rt, item, &fallback);
    items.push_back({{fold ? IgnoreCase(rt, key) : key}, item, true});
  }
  SortKeyed(rt, items, false);
  std::vector<Value> groups;
  for (size_t i = 0; i < items.size();) {
    const size_t start = i;
    std::vector<Value> members;
    for (; i < items.size() && Equals(rt, items[i].key[0], items[start].key[0]); ++i) {
      members.push_back(items[i].value);
    }
    const Value grouper = path.Get(rt, items[start].value, &fallback);
    groups.push_back(rt.Sequence(SequenceKind::kGroup, {grouper, rt.List(std::move(members))}));
  }
  return rt.List(std::move(groups));
}

Value FilterUnique(Runtime& rt, const Value& value, const Args& args) {
  const BoundArgs bound("unique", args, {"case_sensitive", "attribute"});
  const AttributePath path(rt, bound.Or(1, Value()));
  const bool fold = !bound.Bool(rt, 0, false);
  std::set<std::string> seen;
  std::vector<Value> items;
  for (const Value& item : Iterate(rt, value)) {
    const Value key = path.Get(rt, item);
    if (seen.insert(HashKey(rt, fold ? IgnoreCase(rt, key) : key)).second) items.push_back(item);
  }
  return rt.Generator(std::move(items));
}

Value Extreme(Runtime& rt, const Value& value, const Args& args, std::string_view name, bool max) {
  const BoundArgs bound(name, args, {"case_sensitive", "attribute"});
  const AttributePath path(rt, bound.Or(1, Value()));
  const bool fold = !bound.Bool(rt, 0, false);
  const std::vector<Value> items = Iterate(rt, value);
  if (items.empty()) return rt.Undefined("No aggregated item, sequence was empty.");
  const auto key_of = [&](const Value& item) {
    const Value key = path.Get(rt, item);
    return fold ? IgnoreCase(rt, key) : key;
  };
  size_t best = 0;
  Value best_key = key_of(items[0]);
  for (size_t i = 1; i < items.size(); ++i) {
    Value key = key_of(items[i]);
    if (max ? Less(rt, best_key, key, ">") : Less(rt, key, best_key)) {
      best = i;
      best_key = std::move(key);
    }
  }
  return items[best];
}

Value FilterMin(Runtime& rt, const Value& value, const Args& args) {
  return Extreme(rt, value, args, "min", false);
}

Value FilterMax(Runtime& rt, const Value& value, const Args& args) {
  return Extreme(rt, value, args, "max", true);
}

Value FilterSum(Runtime& rt, const Value& value, const Args& args) {
  const BoundArgs bound("sum", args, {"attribute", "start"});
  const AttributePath path(rt, bound.Or(0, Value()));
  Value total = bound.Or(1, 0);
  if (total.is_string()) Fail("sum() can't sum strings [use ''.join(seq) instead]");
  for (const Value& item : Iterate(rt, value)) total = Add(rt, total, path.Get(rt, item));
  return total;
}

// ---- map, select and their kin.

Args Rest(const Args& args, size_t from) {
  Args rest;
  rest.positional.assign(args.positional.begin() + static_cast<ptrdiff_t>(from),
                         args.positional.end());
  rest.named = args.named;
  return rest;
}

const std::string& RequireName(const Value& value, std::string_view what) {
  if (!value.is_string()) Fail("the name of a {} must be str, not {}", what, TypeName(value));
  return value.text();
}

Value MapAttribute(Runtime& rt, const Value& value, const Args& args) {
  const BoundArgs bound("map", args, {"attribute", "default"});
  const AttributePath path(rt, bound[0]);
  const Value fallback = bound.Or(1, Value());
  std::vector<Value> items;
  for (const Value& item : Iterate(rt, value)) items.push_back(path.Get(rt, item, &fallback));
  return rt.Generator(std::move(items));
}

Value FilterMap(Runtime& rt, const Value& value, const Args& args) {
  if (!Truth(rt, value)) return rt.Generator({});
  if (args.positional.empty()) {
    for (const auto& [name, unused] : args.named) {
      if (name == "attribute") return MapAttribute(rt, value, args);
    }
    Fail("map requires a filter argument");
  }
  const std::string& name = RequireName(args.positional[0], "filter");
  const Filter* filter = FindFilter(name);
  if (filter == nullptr) Fail("no filter named '{}'", name);
  const Args rest = Rest(args, 1);
  CallGuard guard(rt);  // map('map', 'map', ...) recurses
  std::vector<Value> items;
  for (const Value& item : Iterate(rt, value)) items.push_back(filter->apply(rt, item, rest));
  return rt.Generator(std::move(items));
}

Value Choose(Runtime& rt, const Value& value, const Args& args, bool by_attribute, bool keep) {
  if (!Truth(rt, value)) return rt.Generator({});
  AttributePath path;
  size_t at = 0;
  if (by_attribute) {
    if (args.positional.empty()) Fail("Missing parameter for attribute name");
    path = AttributePath(rt, args.positional[at++]);
  }
  const Predicate* predicate = nullptr;
  Args rest;
  if (at < args.positional.size()) {
    const std::string& name = RequireName(args.positional[at], "test");
    predicate = FindPredicate(name);
    if (predicate == nullptr) Fail("no test named '{}'", name);
    rest = Rest(args, at + 1);
  }
  std::vector<Value> items;
  for (const Value& item : Iterate(rt, value)) {
    const Value subject = path.Get(rt, item);
    const bool holds = predicate ? predicate->holds(rt, subject, rest) : Truth(rt, subject);
    if (holds == keep) items.push_back(item);
  }
  return rt.Generator(std::move(items));
}

Value FilterSelect(Runtime& rt, const Value& value, const Args& args) {
  return Choose(rt, value, args, false, true);
}
Value FilterReject(Runtime& rt, const Value& value, const Args& args) {
  return Choose(rt, value, args, false, false);
}
Value FilterSelectAttr(Runtime& rt, const Value& value, const Args& args) {
  return Choose(rt, value, args, true, true);
}
Value FilterRejectAttr(Runtime& rt, const Value& value, const Args& args) {
  return Choose(rt, value, args, true, false);
}

// ---- Pieces.

Value FilterBatch(Runtime& rt, const Value& value, const Args& args) {
  const BoundArgs bound("batch", args, {"linecount", "fill_with"}, 1);
  const int64_t size = bound.Int(0, 0);
  std::vector<Value> batches;
  std::vector<Value> batch;
  for (const Value& item : Iterate(rt, value)) {
    if (static_cast<int64_t>(batch.size()) == size) {
      batches.push_back(rt.List(std::move(batch)));
      batch.clear();
    }
    batch.push_back(item);
  }
  if (!batch.empty()) {
    while (bound.HasValue(1) && static_cast<int64_t>(batch.size()) < size) {
      rt.Step();
      rt.CheckSize(batch.size() * sizeof(Value));
      batch.push_back(bound[1]);
    }
    batches.push_back(rt.List(std::move(batch)));
  }
  return rt.Generator(std::move(batches));
}

Value FilterSlice(Runtime& rt, const Value& value, const Args& args) {
  const BoundArgs bound("slice", args, {"slices", "fill_with"}, 1);
  const std::vector<Value> items = Iterate(rt, value);
  const int64_t slices = bound.Int(0, 0);
  if (slices == 0) Fail("integer division or modulo by zero");
  const auto length = static_cast<int64_t>(items.size());
  std::vector<Value> out;
  int64_t at = 0;
  for (int64_t i = 0; i < slices; ++i) {
    const bool extra = i < length % slices;
    const int64_t end = at + length / slices + extra;
    std::vector<Value> slice(items.begin() + at, items.begin() + end);
    if (bound.HasValue(1) && !extra) slice.push_back(bound[1]);
    out.push_back(rt.List(std::move(slice)));
    at = end;
  }
  return rt.Generator(std::move(out));
}

constexpr Filter kFilters[] = {
    {"batch", FilterBatch},
    {"count", FilterLength},
    {"d", FilterDefault},
    {"default", FilterDefault},
    {"dictsort", FilterDictSort},
    {"first", FilterFirst},
    {"groupby", FilterGroupBy},
    {"items", FilterItems},
    {"join", FilterJoin},
    {"last", FilterLast},
    {"length", FilterLength},
    {"list", FilterList},
    {"map", FilterMap},
    {"max", FilterMax},
    {"min", FilterMin},
    {"reject", FilterReject},
    {"rejectattr", FilterRejectAttr},
    {"reverse", FilterReverse},
    {"select", FilterSelect},
    {"selectattr", FilterSelectAttr},
    {"slice", FilterSlice},
    {"sort", FilterSort},
    {"sum", FilterSum},
    {"unique", FilterUnique},
};

}  // namespace

std::span<const Filter> SequenceFilters() { return kFilters; }

}  // namespace trireme::jinja
