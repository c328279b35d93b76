// SPDX-License-Identifier: Apache-2.0
// Methods of dict, list and tuple that change nothing. Constant tables.
#include <algorithm>

#include "text/jinja_filters.h"

namespace trireme::jinja {
namespace {

Value DictGet(Runtime& rt, const Value& self, const Args& args) {
  const BoundArgs bound("get", args, {"key", "default"}, 1);
  const Value* found = self.dict().Find(rt, bound[0]);
  return found != nullptr ? *found : bound.Or(1, Value());
}

template <SequenceKind kKind>
Value DictView(Runtime& rt, const Value& self, const Args& args) {
  BoundArgs("dict view", args, {});
  std::vector<Value> items;
  items.reserve(self.dict().entries.size());
  for (const auto& [key, value] : self.dict().entries) {
    if (kKind == SequenceKind::kKeys) items.push_back(key);
    if (kKind == SequenceKind::kValues) items.push_back(value);
    if (kKind == SequenceKind::kItems) items.push_back(rt.Tuple({key, value}));
  }
  return rt.Sequence(kKind, std::move(items));
}

// Containers never change, so a copy is the same object.
Value Copy(Runtime& rt, const Value& self, const Args& args) {
  BoundArgs("copy", args, {});
  return self;
}

Value SequenceCount(Runtime& rt, const Value& self, const Args& args) {
  const BoundArgs bound("count", args, {"value"}, 1);
  int64_t count = 0;
  for (const Value& item : self.sequence().items) count += Equals(rt, item, bound[0]);
  return count;
}

Value SequenceIndex(Runtime& rt, const Value& self, const Args& args) {
  const BoundArgs bound("index", args, {"value", "start", "stop"}, 1);
  const std::vector<Value>& items = self.sequence().items;
  const auto size = static_cast<int64_t>(items.size());
  const auto clamp = [&](int64_t at) {
    return std::clamp(at < 0 ? at + size : at, int64_t{0}, size);
  };
  const int64_t stop = clamp(bound.Int(2, size));
  for (int64_t i = clamp(bound.Int(1, 0)); i < stop; ++i) {
    if (Equals(rt, items[static_cast<size_t>(i)], bound[0])) return i;
  }
  Fail("{} is not in {}", Repr(rt, bound[0]), TypeName(self));
}

constexpr Function kDictMethods[] = {
    {"copy", Copy},
    {"get", DictGet},
    {"items", DictView<SequenceKind::kItems>},
    {"keys", DictView<SequenceKind::kKeys>},
    {"values", DictView<SequenceKind::kValues>},
};
constexpr Function kListMethods[] = {
    {"copy", Copy}, {"count", SequenceCount}, {"index", SequenceIndex}};
constexpr Function kTupleMethods[] = {{"count", SequenceCount}, {"index", SequenceIndex}};

}  // namespace

std::span<const Function> ContainerMethods(const Value& self) {
  if (self.is_dict()) return kDictMethods;
  if (!self.is_sequence() || !self.sequence().is_indexable()) return {};
  if (self.sequence().kind == SequenceKind::kList) return kListMethods;
  return kTupleMethods;
}

}  // namespace trireme::jinja
