// SPDX-License-Identifier: Apache-2.0
// Lookup of filters, methods and globals by name, their arguments, and the global functions.
// The tables are constant; calls draw on one render's budget.
#include <algorithm>

#include "text/jinja_eval.h"
#include "text/jinja_filters.h"

namespace trireme::jinja {

// ---- Arguments.

BoundArgs::BoundArgs(std::string_view function, const Args& args,
                     std::initializer_list<std::string_view> names, size_t num_required)
    : function_(function), names_(names), values_(names.size(), nullptr) {
  if (args.positional.size() > names_.size()) {
    Fail("{}() takes at most {} argument(s), {} given", function, names_.size(),
         args.positional.size());
  }
  for (size_t i = 0; i < args.positional.size(); ++i) values_[i] = &args.positional[i];
  for (const auto& [name, value] : args.named) {
    const auto at = std::find(names_.begin(), names_.end(), name);
    if (at == names_.end()) Fail("{}() got an unexpected keyword argument '{}'", function, name);
    const Value*& slot = values_[static_cast<size_t>(at - names_.begin())];
    if (slot != nullptr) Fail("{}() got multiple values for argument '{}'", function, name);
    slot = &value;
  }
  for (size_t i = 0; i < num_required; ++i) {
    if (values_[i] == nullptr) Fail("{}() lacks the argument '{}'", function, names_[i]);
  }
}

int64_t RequireInt(const Value& value) {
  if (value.is_undefined()) Fail(value.undefined().Message());
  if (!value.is_integral()) {
    Fail("'{}' object cannot be interpreted as an integer", TypeName(value));
  }
  return value.int_value();
}

double RequireNumber(const Value& value) {
  if (value.is_undefined()) Fail(value.undefined().Message());
  if (!value.is_number()) Fail("must be a real number, not {}", TypeName(value));
  return value.float_value();
}

int64_t BoundArgs::Int(size_t index, int64_t fallback) const {
  return Has(index) ? RequireInt(*values_[index]) : fallback;
}

bool BoundArgs::Bool(Runtime& rt, size_t index, bool fallback) const {
  return Has(index) ? Truth(rt, *values_[index]) : fallback;
}

std::string BoundArgs::Text(Runtime& rt, size_t index, std::string_view fallback) const {
  return Has(index) ? Str(rt, *values_[index]) : std::string(fallback);
}

const std::string& BoundArgs::RequireText(size_t index) const {
  const Value& value = *values_[index];
  if (value.is_undefined()) Fail(value.undefined().Message());
  if (!value.is_string()) {
    Fail("{}() argument '{}' must be str, not {}", function_, names_[index], TypeName(value));
  }
  return value.text();
}

// ---- Callables.

namespace {

struct FunctionObject : CustomObject {
  std::string_view TypeName() const override { return "builtin_function_or_method"; }
  std::string Repr() const override { return fmt::format("<function {}>", function->name); }
  bool IsCallable() const override { return true; }
  Value Call(Runtime& rt, const Args& args) override { return function->call(rt, self, args); }

  Value self;
  const Function* function = nullptr;
};

// cycler(...) and joiner(...). Their state changes; what they hold does not.
struct Cycler : CustomObject {
  std::string_view TypeName() const override { return "Cycler"; }
  std::optional<Value> GetAttribute(Runtime& rt, std::string_view name) override;

  std::vector<Value> items;
  size_t at = 0;
};

Value CyclerNext(Runtime& rt, const Value& self, const Args& args) {
  auto& cycler = static_cast<Cycler&>(self.custom());
  const Value current = cycler.items[cycler.at];
  cycler.at = (cycler.at + 1) % cycler.items.size();
  return current;
}

Value CyclerReset(Runtime& rt, const Value& self, const Args& args) {
  static_cast<Cycler&>(self.custom()).at = 0;
  return Value();
}

constexpr Function kCyclerNext = {"next", CyclerNext};
constexpr Function kCyclerReset = {"reset", CyclerReset};

std::optional<Value> Cycler::GetAttribute(Runtime& rt, std::string_view name) {
  if (name == "current") return items[at];
  if (name == "next") return MakeFunction(rt, Value(Type::kObject, this), &kCyclerNext);
  if (name == "reset") return MakeFunction(rt, Value(Type::kObject, this), &kCyclerReset);
  return std::nullopt;
}

struct Joiner : CustomObject {
  std::string_view TypeName() const override { return "Joiner"; }
  bool IsCallable() const override { return true; }
  Value Call(Runtime& rt, const Args& args) override {
    if (used) return separator;
    used = true;
    return rt.String(std::string());
  }

  Value separator;
  bool used = false;
};

void InheritNesting(Object& object, const Value& held) {
  if (!held.is_object()) return;
  object.nesting = std::max(object.nesting, held.object()->nesting + 1);
  if (object.nesting > kMaxNesting) FailLimit("functions and cyclers are nested too deep");
}

Value GlobalRange(Runtime& rt, const Value& self, const Args& args) {
  if (!args.named.empty()) Fail("range() takes no keyword arguments");
  const size_t count = args.positional.size();
  if (count < 1 || count > 3) Fail("range expected 1 to 3 arguments, got {}", count);
  const int64_t start = count > 1 ? RequireInt(args.positional[0]) : 0;
  const int64_t stop = RequireInt(args.positional[count > 1 ? 1 : 0]);
  const int64_t step = count > 2 ? RequireInt(args.positional[2]) : 1;
  if (step == 0) Fail("range() arg 3 must not be zero");
  std::vector<Value> items;
  for (__int128 at = start; step > 0 ? at < stop : at > stop; at += step) {
    if (items.size() >= static_cast<size_t>(kMaxRange)) {
      FailLimit(fmt::format("range() makes more than {} items", kMaxRange));
    }
    items.emplace_back(static_cast<int64_t>(at));
  }
  return rt.Sequence(SequenceKind::kRange, std::move(items));
}

// dict(mapping or pairs, name=value ...): shared by `dict` and `namespace`.
Value MakeDict(Runtime& rt, std::string_view function, const Args& args) {
  if (args.positional.size() > 1) Fail("{} expected at most 1 argument", function);
  Value dict = rt.NewDict();
  if (!args.positional.empty()) {
    const Value& source = args.positional[0];
    if (source.is_dict()) {
      for (const auto& [key, value] : source.dict().entries) dict.dict().Set(rt, key, value);
    } else {
      for (const Value& pair : Iterate(rt, source)) {
        const std::vector<Value> two = Iterate(rt, pair);
        if (two.size() != 2)
          Fail("{}() takes pairs, got an item of length {}", function, two.size());
        dict.dict().Set(rt, two[0], two[1]);
      }
    }
  }
  for (const auto& [name, value] : args.named) dict.dict().Set(rt, rt.String(name), value);
  rt.SealDict(dict);
  return dict;
}

Value GlobalDict(Runtime& rt, const Value& self, const Args& args) {
  return MakeDict(rt, "dict", args);
}

Value GlobalNamespace(Runtime& rt, const Value& self, const Args& args) {
  const Value fields = MakeDict(rt, "namespace", args);
  auto* space = new Namespace;
  Value value = rt.Custom(space, sizeof(Namespace));
  rt.KeepUntilEnd(value, [](Object& object) { static_cast<Namespace&>(object).fields.clear(); });
  for (const auto& [name, field] : fields.dict().entries) {
    if (name.is_string()) space->Set(rt, name.text(), field);
  }
  return value;
}

Value GlobalCycler(Runtime& rt, const Value& self, const Args& args) {
  if (args.positional.empty()) Fail("cycler() needs at least one item");
  auto* cycler = new Cycler;
  Value value = rt.Custom(cycler, sizeof(Cycler) + args.positional.size() * sizeof(Value));
  for (const Value& item : args.positional) InheritNesting(*cycler, item);
  cycler->items = args.positional;
  return value;
}

Value GlobalJoiner(Runtime& rt, const Value& self, const Args& args) {
  const BoundArgs bound("joiner", args, {"sep"});
  auto* joiner = new Joiner;
  Value value = rt.Custom(joiner, sizeof(Joiner));
  joiner->separator = bound.Has(0) ? bound[0] : rt.String(", ");
  InheritNesting(*joiner, joiner->separator);
  return value;
}

Value GlobalRaiseException(Runtime& rt, const Value& self, const Args& args) {
  const BoundArgs bound("raise_exception", args, {"message"}, 1);
  Fail(Str(rt, bound[0]));
}

Value GlobalStrftimeNow(Runtime& rt, const Value& self, const Args& args) {
  const BoundArgs bound("strftime_now", args, {"format"}, 1);
  return rt.String(FormatTime(rt, bound.RequireText(0)));
}

Value GlobalLipsum(Runtime& rt, const Value& self, const Args& args) {
  throw Error{StatusCode::kUnimplemented, "lipsum() is refused: a prompt must not be random"};
}

constexpr Function kGlobals[] = {
    {"range", GlobalRange},
    {"dict", GlobalDict},
    {"namespace", GlobalNamespace},
    {"cycler", GlobalCycler},
    {"joiner", GlobalJoiner},
    {"raise_exception", GlobalRaiseException},
    {"strftime_now", GlobalStrftimeNow},
    {"lipsum", GlobalLipsum},
};

template <typename Entry>
const Entry* FindIn(std::span<const Entry> table, std::string_view name) {
  for (const Entry& entry : table) {
    if (entry.name == name) return &entry;
  }
  return nullptr;
}

}  // namespace

Value MakeFunction(Runtime& rt, const Value& self, const Function* function) {
  auto* object = new FunctionObject;
  Value value = rt.Custom(object, sizeof(FunctionObject));
  object->self = self;
  object->function = function;
  InheritNesting(*object, self);
  return value;
}

const Filter* FindFilter(std::string_view name) {
  for (std::span<const Filter> table : {StringFilters(), SequenceFilters(), NumberFilters()}) {
    if (const Filter* filter = FindIn(table, name)) return filter;
  }
  return nullptr;
}

const Function* FindGlobal(std::string_view name) {
  return FindIn(std::span<const Function>(kGlobals), name);
}

const Function* FindMethod(const Value& self, std::string_view name, bool* forbidden) {
  static constexpr std::string_view kDictChangers[] = {"clear", "pop", "popitem", "setdefault",
                                                       "update"};
  static constexpr std::string_view kListChangers[] = {"append", "clear",  "pop",    "reverse",
                                                       "insert", "extend", "remove", "sort"};
  if (self.is_string()) return FindIn(StringMethods(), name);
  if (!self.is_dict() && !self.is_sequence()) return nullptr;
  const bool is_list = self.is_sequence() && self.sequence().kind == SequenceKind::kList;
  std::span<const std::string_view> changers;
  if (self.is_dict()) changers = kDictChangers;
  if (is_list) changers = kListChangers;
  *forbidden = std::find(changers.begin(), changers.end(), name) != changers.end();
  return *forbidden ? nullptr : FindIn(ContainerMethods(self), name);
}

}  // namespace trireme::jinja
