// SPDX-License-Identifier: Apache-2.0
// What one render may use up, and makers of its values. One Runtime per render, one thread.
//
// Errors inside the engine travel as `Error` exceptions; Template::Parse and Template::Render turn
// them into a Status, so none leaves the folder.
#pragma once

#include <fmt/core.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja_value.h"
#include "trireme/status.h"

namespace trireme::jinja {

inline constexpr uint64_t kMaxTemplateBytes = 1u << 20;
inline constexpr uint64_t kMaxOutputBytes = 64u << 20;
inline constexpr uint64_t kMaxLiveBytes = 512u << 20;
// One step is a node evaluated, an item handled, or kBytesPerStep bytes of text worked on.
inline constexpr uint64_t kMaxSteps = 20'000'000;
inline constexpr uint64_t kBytesPerStep = 64;
inline constexpr int kMaxSyntaxDepth = 100;      // tags or brackets within each other
inline constexpr int kMaxExpressionDepth = 500;  // operators on top of each other: a + b + ...
inline constexpr int kMaxCallDepth = 150;        // macros, callers and recursive loops
inline constexpr int kMaxEvalDepth = 1500;       // nodes being evaluated at once: bounds the stack
inline constexpr uint32_t kMaxNesting = 200;     // containers within each other
inline constexpr int64_t kMaxRange = 100'000;    // items of range(), as Jinja's sandbox has it

struct Error {
  StatusCode code = StatusCode::kInvalidArgument;
  std::string message;
};

[[noreturn]] void Fail(std::string message);
template <typename... Args>
requires(sizeof...(Args) > 0)
    [[noreturn]] void Fail(fmt::format_string<Args...> format, Args&&... args) {
  Fail(fmt::format(format, std::forward<Args>(args)...));
}
[[noreturn]] void FailLimit(std::string message);

struct Budget {
  uint64_t live_bytes = 0;
};

// Arguments of a call. Names live in the template.
struct Args {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;

  bool empty() const { return positional.empty() && named.empty(); }
};

class Runtime {
 public:
  // `now`: local time "YYYY-MM-DDTHH:MM:SS" for strftime_now; empty for the clock.
  explicit Runtime(std::string now) : now_(std::move(now)) {}
  ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  void Step(uint64_t count = 1) {
    steps_ += count;
    if (steps_ > kMaxSteps) FailSteps();
  }
  // Work over `bytes` of text that makes no new text.
  void StepBytes(uint64_t bytes) { Step(bytes / kBytesPerStep); }
  // Before a text of `bytes` is built; also called while one of unknown size grows.
  void CheckSize(uint64_t bytes) const;

  Value String(std::string text, bool markup = false);
  Value String(std::string_view text) { return String(std::string(text)); }
  Value String(const char* text) { return String(std::string(text)); }
  Value BigInt(std::string digits);
  Value List(std::vector<Value> items) { return Sequence(SequenceKind::kList, std::move(items)); }
  Value Tuple(std::vector<Value> items) { return Sequence(SequenceKind::kTuple, std::move(items)); }
  Value Generator(std::vector<Value> items) {
    return Sequence(SequenceKind::kGenerator, std::move(items));
  }
  Value Sequence(SequenceKind kind, std::vector<Value> items);
  // An empty dict to fill with DictObject::Set, then to seal with SealDict.
  Value NewDict();
  void SealDict(const Value& dict);
  Value Undefined(std::string hint);
  Value UndefinedName(std::string_view name);
  Value UndefinedAttribute(const Value& owner, const Value& name);
  Value Custom(CustomObject* object, uint64_t bytes);
  // Keeps `object` until the render ends; `clear` then empties it.
  void KeepUntilEnd(Value object, void (*clear)(Object&));

  const std::string& now() const { return now_; }
  void set_line(int line) { line_ = line; }
  int line() const { return line_; }
  void EnterCall();
  void LeaveCall() { --call_depth_; }

 private:
  struct Kept {
    Value object;
    void (*clear)(Object&);
  };
  [[noreturn]] static void FailSteps();
  void Charge(Object* object, uint64_t bytes);

  std::string now_;
  Budget budget_;
  uint64_t steps_ = 0;
  int line_ = 1;
  int call_depth_ = 0;
  std::vector<Kept> kept_;
};

class CallGuard {
 public:
  explicit CallGuard(Runtime& rt) : rt_(rt) { rt_.EnterCall(); }
  ~CallGuard() { rt_.LeaveCall(); }
  CallGuard(const CallGuard&) = delete;
  CallGuard& operator=(const CallGuard&) = delete;

 private:
  Runtime& rt_;
};

}  // namespace trireme::jinja
