// SPDX-License-Identifier: Apache-2.0
// Renders a parsed template: a walk over its syntax. One Evaluator per render, one thread.
#pragma once

#include <string>
#include <vector>

#include "text/jinja_ast.h"
#include "text/jinja_runtime.h"
#include "text/jinja_value.h"

namespace trireme::jinja {

class Evaluator;

// Variables of one block; lookups go on to the parent. A scope that a macro closes over is kept by
// the runtime until the render ends, all others die with their block.
struct Scope : CustomObject {
  explicit Scope(Scope* parent_scope) : parent(parent_scope) {}
  std::string_view TypeName() const override { return "scope"; }
  const Value* FindHere(int symbol) const;
  const Value* Find(int symbol) const;
  void Set(int symbol, Value value);

  Scope* const parent;
  bool kept = false;
  std::vector<std::pair<int, Value>> variables;
};

struct Namespace : CustomObject {
  std::string_view TypeName() const override { return "Namespace"; }
  std::string Repr() const override;
  std::optional<Value> GetAttribute(Runtime& rt, std::string_view name) override;
  void Set(Runtime& rt, std::string_view name, Value value);

  std::vector<std::pair<std::string, Value>> fields;
};

// The variable `loop`.
struct Loop : CustomObject {
  std::string_view TypeName() const override { return "LoopContext"; }
  bool IsCallable() const override { return true; }
  std::optional<Value> GetAttribute(Runtime& rt, std::string_view name) override;
  std::optional<int64_t> Length(Runtime& rt) override;
  Value Call(Runtime& rt, const Args& args) override;

  // Makes item `count` - 1 known; false when there are fewer. A loop with a filter looks ahead no
  // further than the template does, since the filter may read what the body changes.
  bool Have(size_t count);
  Value Changed(Runtime& rt, const Args& args);

  Evaluator* evaluator = nullptr;  // null once the loop is over
  const Stmt* stmt = nullptr;
  Scope* scope = nullptr;  // where the loop stands
  std::vector<Value> source;
  size_t next_source = 0;
  std::vector<Value> items;  // of `source`, those that passed the filter
  size_t index0 = 0;
  int64_t depth0 = 0;
  std::vector<Value> last_changed;
  bool has_changed = false;
};

class Evaluator {
 public:
  // All must outlive the evaluator. `variables` is the dict of the render; `defaults`, which may be
  // null, is asked after it.
  Evaluator(const Syntax& syntax, Runtime& rt, const DictObject& variables,
            const DictObject* defaults);

  std::string Run();

 private:
  friend struct Loop;
  friend struct Macro;
  enum class Flow : uint8_t { kNormal, kBreak, kContinue };

  Value NewScope(Scope* parent);
  void KeepScope(Scope* scope);

  // Statements.
  Flow ExecBlock(const Block& block, Scope& scope);
  Flow Exec(const Stmt& stmt, Scope& scope);
  Flow ExecIf(const Stmt& stmt, Scope& scope);
  Flow ExecFor(const Stmt& stmt, Scope& scope);
  Flow RunLoop(const Stmt& stmt, Scope& scope, std::vector<Value> source, int64_t depth0);
  bool LoopAccepts(const Stmt& stmt, Scope& scope, const Value& item);
  Flow ExecSetBlock(const Stmt& stmt, Scope& scope);
  Flow ExecFilterBlock(const Stmt& stmt, Scope& scope);
  Flow ExecWith(const Stmt& stmt, Scope& scope);
  void ExecCallBlock(const Stmt& stmt, Scope& scope);
  void Print(const Value& value);
  void Emit(std::string_view text);
  void Assign(const Expr& target, Value value, Scope& scope);
  Value MakeMacro(const MacroDef& def, Scope& scope);
  Value CallMacro(const MacroDef& def, Scope& defined_in, const Args& args);
  void BindMacro(const MacroDef& def, const Args& args, Scope& scope);
  Value Recurse(Loop& loop, const Args& args);

  // Redirects output while it lives.
  class Capture;

  // One level deeper; the caller takes `depth_` back. Bounds the stack.
  void EnterNode();

  // Expressions.
  Value Eval(const Expr& expr, Scope& scope);
  Value EvalInner(const Expr& expr, Scope& scope);
  Value EvalName(int symbol, Scope& scope);
  std::vector<Value> EvalAll(const std::vector<ExprPtr>& exprs, Scope& scope);
  Value EvalDict(const Expr& expr, Scope& scope);
  Value EvalSlice(const Expr& expr, Scope& scope);
  Value EvalCall(const Expr& expr, Scope& scope);
  Value EvalFilter(const Expr& expr, Scope& scope, const Value* block_text);
  Value EvalTest(const Expr& expr, Scope& scope);
  Value EvalCompare(const Expr& expr, Scope& scope);
  Value EvalConcat(const Expr& expr, Scope& scope);
  Value EvalCondition(const Expr& expr, Scope& scope);
  Args EvalArguments(const Arguments* arguments, Scope& scope);

  const Syntax& syntax_;
  Runtime& rt_;
  const DictObject& variables_;
  const DictObject* const defaults_;
  Scope* root_ = nullptr;
  std::string* out_ = nullptr;
  uint64_t buffered_bytes_ = 0;  // over all captures in progress
  int depth_ = 0;
};

}  // namespace trireme::jinja
