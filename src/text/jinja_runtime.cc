// SPDX-License-Identifier: Apache-2.0
// Limits and value makers of one render. One thread per Runtime.
#include "text/jinja_runtime.h"

#include <algorithm>

namespace trireme::jinja {
namespace {

uint32_t NestingOf(const Value& value) { return value.is_object() ? value.object()->nesting : 0; }

void SetNesting(Object* object, uint32_t inner) {
  object->nesting = inner + 1;
  if (object->nesting > kMaxNesting) {
    FailLimit(fmt::format("lists and dicts are nested deeper than {} levels", kMaxNesting));
  }
}

}  // namespace

void Fail(std::string message) { throw Error{StatusCode::kInvalidArgument, std::move(message)}; }

void FailLimit(std::string message) {
  throw Error{StatusCode::kResourceExhausted, std::move(message)};
}

Object::~Object() {
  if (budget != nullptr) budget->live_bytes -= charged_bytes;
}

Runtime::~Runtime() {
  // Every kept object stays alive while all are emptied, so no cycle survives and no destructor
  // runs deep.
  for (Kept& kept : kept_) kept.clear(*kept.object.object());
}

void Runtime::FailSteps() {
  FailLimit(fmt::format("the template takes more than {} steps", kMaxSteps));
}

void Runtime::CheckSize(uint64_t bytes) const {
  if (bytes > kMaxOutputBytes) {
    FailLimit(fmt::format("a text grows beyond {} bytes", kMaxOutputBytes));
  }
}

void Runtime::Charge(Object* object, uint64_t bytes) {
  Step(1 + bytes / kBytesPerStep);
  object->budget = &budget_;
  object->charged_bytes += bytes;
  budget_.live_bytes += bytes;
  if (budget_.live_bytes > kMaxLiveBytes) {
    FailLimit(fmt::format("the values of the template take more than {} bytes", kMaxLiveBytes));
  }
}

Value Runtime::String(std::string text, bool markup) {
  CheckSize(text.size());
  auto* object = new StringObject;
  Value value(Type::kString, object);
  object->text = std::move(text);
  object->markup = markup;
  Charge(object, sizeof(StringObject) + object->text.capacity());
  return value;
}

Value Runtime::BigInt(std::string digits) {
  auto* object = new StringObject;
  Value value(Type::kBigInt, object);
  object->text = std::move(digits);
  Charge(object, sizeof(StringObject) + object->text.capacity());
  return value;
}

Value Runtime::Sequence(SequenceKind kind, std::vector<Value> items) {
  auto* object = new SequenceObject;
  Value value(Type::kSequence, object);
  object->kind = kind;
  object->items = std::move(items);
  uint32_t inner = 0;
  for (const Value& item : object->items) inner = std::max(inner, NestingOf(item));
  SetNesting(object, inner);
  Charge(object, sizeof(SequenceObject) + object->items.capacity() * sizeof(Value));
  return value;
}

Value Runtime::NewDict() {
  auto* object = new DictObject;
  Value value(Type::kDict, object);
  Charge(object, sizeof(DictObject));
  return value;
}

void Runtime::SealDict(const Value& dict) {
  DictObject& object = dict.dict();
  uint32_t inner = 0;
  for (const auto& [key, value] : object.entries) {
    inner = std::max({inner, NestingOf(key), NestingOf(value)});
  }
  SetNesting(&object, inner);
  constexpr uint64_t kIndexBytes = 96;  // a map node with a short key
  const uint64_t entries = object.entries.size();
  Charge(&object, entries * (sizeof(Value) * 2 + (entries > 12 ? kIndexBytes : 0)));
}

Value Runtime::Undefined(std::string hint) {
  auto* object = new UndefinedObject;
  Value value(Type::kUndefined, object);
  object->hint = std::move(hint);
  Charge(object, sizeof(UndefinedObject));
  return value;
}

Value Runtime::UndefinedName(std::string_view name) {
  auto* object = new UndefinedObject;
  Value value(Type::kUndefined, object);
  object->name = String(name);
  Charge(object, sizeof(UndefinedObject));
  return value;
}

Value Runtime::UndefinedAttribute(const Value& owner, const Value& name) {
  auto* object = new UndefinedObject;
  Value value(Type::kUndefined, object);
  object->owner = OwnerName(owner);
  object->name = name;
  object->nesting = NestingOf(name);
  Charge(object, sizeof(UndefinedObject));
  return value;
}

Value Runtime::Custom(CustomObject* object, uint64_t bytes) {
  Value value(Type::kObject, object);
  Charge(object, bytes);
  return value;
}

void Runtime::KeepUntilEnd(Value object, void (*clear)(Object&)) {
  kept_.push_back({std::move(object), clear});
}

void Runtime::EnterCall() {
  if (call_depth_ >= kMaxCallDepth) {
    FailLimit(fmt::format("macros and recursive loops call deeper than {} levels", kMaxCallDepth));
  }
  ++call_depth_;
}

}  // namespace trireme::jinja
