// SPDX-License-Identifier: Apache-2.0
// Values of a template: Python's none, bool, int, float, str, list, tuple, dict and callables.
//
// Values of one render belong to one thread. Constants of a parsed template are frozen: their
// reference count never changes, so renders on any number of threads share them.
// Containers never change once built, namespaces and scopes excepted; the Runtime holds those until
// the render ends, which is what breaks reference cycles.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace trireme::jinja {

class Runtime;
class Value;
struct Budget;
struct Args;

enum class Type : uint8_t {
  kNone,
  kBool,
  kInt,
  kFloat,
  // From here on values are objects.
  kUndefined,
  kBigInt,  // an integer of the variables beyond 64 bits: printed and compared only
  kString,
  kSequence,
  kDict,
  kObject,
};

struct Object {
  static constexpr uint32_t kFrozen = 1u << 31;

  Object() = default;
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;
  virtual ~Object();

  uint32_t refs = 0;
  // Levels of containers inside; bounded by kMaxNesting, so that recursion over values is bounded.
  uint32_t nesting = 0;
  Budget* budget = nullptr;  // what to give `charged_bytes` back to
  uint64_t charged_bytes = 0;
};

struct StringObject;
struct SequenceObject;
struct DictObject;
struct CustomObject;
struct UndefinedObject;

class Value {
 public:
  Value() : type_(Type::kNone), int_(0) {}
  Value(bool value) : type_(Type::kBool), int_(0) { bool_ = value; }  // NOLINT: implicit
  Value(int64_t value) : type_(Type::kInt), int_(value) {}            // NOLINT: implicit
  Value(int value) : type_(Type::kInt), int_(value) {}                // NOLINT: implicit
  Value(double value) : type_(Type::kFloat), float_(value) {}         // NOLINT: implicit
  Value(const void*) = delete;  // a pointer must not become a bool
  Value(Type type, Object* object) : type_(type), object_(object) { Ref(); }
  Value(const Value& other) : type_(other.type_), int_(other.int_) { Ref(); }
  Value(Value&& other) noexcept : type_(other.type_), int_(other.int_) {
    other.type_ = Type::kNone;
  }
  Value& operator=(Value other) noexcept {
    std::swap(type_, other.type_);
    std::swap(int_, other.int_);
    return *this;
  }
  ~Value() { Unref(); }

  // A string no render owns: a constant of the template.
  static Value FrozenString(std::string text);
  static Value FrozenBigInt(std::string digits);

  Type type() const { return type_; }
  bool is_object() const { return type_ >= Type::kUndefined; }
  bool is_none() const { return type_ == Type::kNone; }
  bool is_undefined() const { return type_ == Type::kUndefined; }
  bool is_bool() const { return type_ == Type::kBool; }
  bool is_float() const { return type_ == Type::kFloat; }
  bool is_string() const { return type_ == Type::kString; }
  bool is_sequence() const { return type_ == Type::kSequence; }
  bool is_dict() const { return type_ == Type::kDict; }
  bool is_custom() const { return type_ == Type::kObject; }
  // int or bool, which is an int to Python.
  bool is_integral() const { return type_ == Type::kInt || type_ == Type::kBool; }
  bool is_number() const { return is_integral() || is_float(); }

  bool bool_value() const { return bool_; }
  int64_t int_value() const { return type_ == Type::kBool ? bool_ : int_; }
  double float_value() const {
    return type_ == Type::kFloat ? float_ : static_cast<double>(int_value());
  }
  Object* object() const { return object_; }
  const std::string& text() const;  // kString and kBigInt
  bool markup() const;              // false for all but strings marked safe
  SequenceObject& sequence() const;
  DictObject& dict() const;
  CustomObject& custom() const;
  const UndefinedObject& undefined() const;

 private:
  void Ref() const {
    if (is_object() && object_->refs < Object::kFrozen) ++object_->refs;
  }
  void Unref() const {
    if (is_object() && object_->refs < Object::kFrozen && --object_->refs == 0) delete object_;
  }

  Type type_;
  union {
    bool bool_;
    int64_t int_;
    double float_;
    Object* object_;
  };
};

struct StringObject : Object {
  std::string text;
  bool markup = false;
};

struct UndefinedObject : Object {
  // Either the whole reason, or the missing `name` and, of an attribute, its owner's type.
  std::string hint;
  std::string owner;
  Value name;
  std::string Message() const;
};

enum class SequenceKind : uint8_t {
  kList,
  kTuple,
  kGroup,  // a tuple with the fields `grouper` and `list`
  kRange,
  kKeys,
  kValues,
  kItems,
  kGenerator,  // and other iterators: no length, true, consumed by reading
};

struct SequenceObject : Object {
  SequenceKind kind = SequenceKind::kList;
  size_t position = 0;  // of a generator: items before it are consumed
  std::vector<Value> items;

  bool is_tuple() const { return kind == SequenceKind::kTuple || kind == SequenceKind::kGroup; }
  // Can be indexed and sliced.
  bool is_indexable() const { return kind <= SequenceKind::kRange; }
};

// Keeps insertion order. `Set` is for building only.
struct DictObject : Object {
  std::vector<std::pair<Value, Value>> entries;

  // Both fail with Python's message for a key that has no hash.
  const Value* Find(Runtime& rt, const Value& key) const;
  void Set(Runtime& rt, Value key, Value value);
  const Value* Find(std::string_view key) const;

 private:
  static constexpr size_t kLinearEntries = 12;
  std::optional<size_t> IndexOf(Runtime& rt, const Value& key) const;
  // Filled when there are more than kLinearEntries. An ordered map: no key set makes it slow.
  std::map<std::string, size_t, std::less<>> index_;
};

// Functions, methods, macros, loops, namespaces and the like.
struct CustomObject : Object {
  virtual std::string_view TypeName() const = 0;
  virtual std::string Repr() const;
  virtual bool IsCallable() const { return false; }
  virtual std::optional<Value> GetAttribute(Runtime& rt, std::string_view name);
  virtual std::optional<int64_t> Length(Runtime& rt) { return std::nullopt; }
  virtual Value Call(Runtime& rt, const Args& args);
};

// Python's name of the value's type: "str", "dict", "NoneType".
std::string_view TypeName(const Value& value);
// As Jinja names an owner in "... has no attribute": "dict object", "None".
std::string OwnerName(const Value& value);

bool Truth(Runtime& rt, const Value& value);
bool Equals(Runtime& rt, const Value& a, const Value& b);
// Python's `a < b`; fails on types without an order.
bool Less(Runtime& rt, const Value& a, const Value& b, std::string_view op = "<");
bool IsSame(const Value& a, const Value& b);  // Python's `is`
// A text equal for equal values; fails for a value without a hash.
std::string HashKey(Runtime& rt, const Value& value);

// str() and repr().
void AppendStr(Runtime& rt, const Value& value, std::string* out);
void AppendRepr(Runtime& rt, const Value& value, std::string* out);
std::string Str(Runtime& rt, const Value& value);
std::string Repr(Runtime& rt, const Value& value);
std::string FloatRepr(double value);
void AppendStringRepr(std::string_view text, std::string* out);

// The items iteration yields; a generator is consumed. Fails with "'x' object is not iterable".
std::vector<Value> Iterate(Runtime& rt, const Value& value);
bool IsIterable(const Value& value);
std::optional<int64_t> Length(Runtime& rt, const Value& value);

}  // namespace trireme::jinja
