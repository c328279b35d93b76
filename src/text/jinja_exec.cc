// SPDX-License-Identifier: Apache-2.0
// Statements, macros and loops of the evaluator. One thread per render.
#include <algorithm>

#include "text/jinja_eval.h"
#include "text/jinja_filters.h"

namespace trireme::jinja {

// A macro or the body of a call block, with the scope it was defined in.
struct Macro : CustomObject {
  std::string_view TypeName() const override { return "Macro"; }
  std::string Repr() const override { return fmt::format("<Macro '{}'>", def->name); }
  bool IsCallable() const override { return true; }
  std::optional<Value> GetAttribute(Runtime& rt, std::string_view name) override {
    if (name == "name") return rt.String(def->name);
    if (name == "caller") return Value(def->uses_caller);
    if (name == "catch_kwargs") return Value(def->uses_kwargs);
    if (name == "catch_varargs") return Value(def->uses_varargs);
    if (name != "arguments") return std::nullopt;
    std::vector<Value> names;
    for (const std::string& parameter : def->parameter_names) names.push_back(rt.String(parameter));
    return rt.Tuple(std::move(names));
  }
  Value Call(Runtime& rt, const Args& args) override {
    return evaluator->CallMacro(*def, *scope, args);
  }

  Evaluator* evaluator = nullptr;
  const MacroDef* def = nullptr;
  Scope* scope = nullptr;
};

class Evaluator::Capture {
 public:
  explicit Capture(Evaluator& evaluator) : evaluator_(evaluator), outer_(evaluator.out_) {
    evaluator_.out_ = &text_;
  }
  ~Capture() {
    evaluator_.buffered_bytes_ -= size_;
    evaluator_.out_ = outer_;
  }
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  std::string Take() {
    size_ = text_.size();
    return std::move(text_);
  }

 private:
  Evaluator& evaluator_;
  std::string* const outer_;
  std::string text_;
  uint64_t size_ = 0;
};

std::string Evaluator::Run() {
  const Value root = NewScope(nullptr);
  root_ = static_cast<Scope*>(root.object());
  std::string output;
  out_ = &output;
  ExecBlock(syntax_.body, *root_);
  return output;
}

void Evaluator::Emit(std::string_view text) {
  buffered_bytes_ += text.size();
  if (buffered_bytes_ > kMaxOutputBytes) {
    FailLimit(fmt::format("the rendered text grows beyond {} bytes", kMaxOutputBytes));
  }
  rt_.StepBytes(text.size());
  out_->append(text);
}

void Evaluator::Print(const Value& value) {
  if (value.is_string()) return Emit(value.text());
  Emit(Str(rt_, value));
}

Evaluator::Flow Evaluator::ExecBlock(const Block& block, Scope& scope) {
  EnterNode();
  Flow flow = Flow::kNormal;
  for (const auto& stmt : block) {
    rt_.Step();
    rt_.set_line(stmt->line);
    if (stmt->kind == StmtKind::kText) {
      Emit(stmt->text);
      continue;
    }
    flow = Exec(*stmt, scope);
    if (flow != Flow::kNormal) break;
  }
  --depth_;
  return flow;
}

Evaluator::Flow Evaluator::Exec(const Stmt& stmt, Scope& scope) {
  switch (stmt.kind) {
    case StmtKind::kText: break;
    case StmtKind::kPrint:
      for (const ExprPtr& expr : stmt.exprs) Print(Eval(*expr, scope));
      break;
    case StmtKind::kIf: return ExecIf(stmt, scope);
    case StmtKind::kFor: return ExecFor(stmt, scope);
    case StmtKind::kSet: Assign(*stmt.targets[0], Eval(*stmt.exprs[0], scope), scope); break;
    case StmtKind::kSetBlock: return ExecSetBlock(stmt, scope);
    case StmtKind::kMacro: scope.Set(stmt.macro->symbol, MakeMacro(*stmt.macro, scope)); break;
    case StmtKind::kCallBlock: ExecCallBlock(stmt, scope); break;
    case StmtKind::kFilterBlock: return ExecFilterBlock(stmt, scope);
    case StmtKind::kWith: return ExecWith(stmt, scope);
    case StmtKind::kScope: {
      const Value inner = NewScope(stmt.detached ? root_ : &scope);
      return ExecBlock(stmt.blocks[0], *static_cast<Scope*>(inner.object()));
    }
    case StmtKind::kBreak: return Flow::kBreak;
    case StmtKind::kContinue: return Flow::kContinue;
  }
  return Flow::kNormal;
}

Evaluator::Flow Evaluator::ExecIf(const Stmt& stmt, Scope& scope) {
  for (size_t i = 0; i < stmt.exprs.size(); ++i) {
    if (Truth(rt_, Eval(*stmt.exprs[i], scope))) return ExecBlock(stmt.blocks[i], scope);
  }
  if (stmt.blocks.size() > stmt.exprs.size()) return ExecBlock(stmt.blocks.back(), scope);
  return Flow::kNormal;
}

Evaluator::Flow Evaluator::ExecFor(const Stmt& stmt, Scope& scope) {
  const Value iterable = Eval(*stmt.exprs[0], scope);
  return RunLoop(stmt, scope, Iterate(rt_, iterable), 0);
}

bool Evaluator::LoopAccepts(const Stmt& stmt, Scope& scope, const Value& item) {
  const Value holder = NewScope(&scope);
  Scope& inner = *static_cast<Scope*>(holder.object());
  Assign(*stmt.targets[0], item, inner);
  return Truth(rt_, Eval(*stmt.exprs[1], inner));
}

Evaluator::Flow Evaluator::RunLoop(const Stmt& stmt, Scope& scope, std::vector<Value> source,
                                   int64_t depth0) {
  auto* loop = new Loop;
  const Value loop_value = rt_.Custom(loop, sizeof(Loop) + source.capacity() * sizeof(Value));
  for (const Value& item : source) {
    if (item.is_object()) loop->nesting = std::max(loop->nesting, item.object()->nesting + 1);
  }
  loop->evaluator = this;
  loop->stmt = &stmt;
  loop->scope = &scope;
  loop->depth0 = depth0;
  (stmt.exprs.size() > 1 ? loop->source : loop->items) = std::move(source);
  size_t done = 0;
  for (; loop->Have(done + 1); ++done) {
    rt_.Step();
    loop->index0 = done;
    const Value holder = NewScope(&scope);
    Scope& inner = *static_cast<Scope*>(holder.object());
    inner.Set(syntax_.loop, loop_value);
    Assign(*stmt.targets[0], loop->items[done], inner);
    if (ExecBlock(stmt.blocks[0], inner) == Flow::kBreak) {
      ++done;
      break;
    }
  }
  loop->evaluator = nullptr;
  if (done > 0 || stmt.blocks.size() < 2) return Flow::kNormal;
  const Value holder = NewScope(&scope);
  return ExecBlock(stmt.blocks[1], *static_cast<Scope*>(holder.object()));
}

Evaluator::Flow Evaluator::ExecSetBlock(const Stmt& stmt, Scope& scope) {
  const Value holder = NewScope(&scope);
  Value value;
  {
    Capture capture(*this);
    const Flow flow = ExecBlock(stmt.blocks[0], *static_cast<Scope*>(holder.object()));
    std::string text = capture.Take();
    if (flow != Flow::kNormal) return flow;
    value = rt_.String(std::move(text));
  }
  if (stmt.exprs[0] != nullptr) value = EvalFilter(*stmt.exprs[0], scope, &value);
  Assign(*stmt.targets[0], std::move(value), scope);
  return Flow::kNormal;
}

Evaluator::Flow Evaluator::ExecFilterBlock(const Stmt& stmt, Scope& scope) {
  const Value holder = NewScope(&scope);
  Scope& inner = *static_cast<Scope*>(holder.object());
  Value text;
  {
    Capture capture(*this);
    const Flow flow = ExecBlock(stmt.blocks[0], inner);
    std::string captured = capture.Take();
    if (flow != Flow::kNormal) return flow;
    text = rt_.String(std::move(captured));
  }
  Print(EvalFilter(*stmt.exprs[0], inner, &text));
  return Flow::kNormal;
}

Evaluator::Flow Evaluator::ExecWith(const Stmt& stmt, Scope& scope) {
  const Value holder = NewScope(&scope);
  Scope& inner = *static_cast<Scope*>(holder.object());
  // All values see the outer scope only.
  std::vector<Value> values = EvalAll(stmt.exprs, scope);
  for (size_t i = 0; i < values.size(); ++i) {
    Assign(*stmt.targets[i], std::move(values[i]), inner);
  }
  return ExecBlock(stmt.blocks[0], inner);
}

void Evaluator::ExecCallBlock(const Stmt& stmt, Scope& scope) {
  const Expr& call = *stmt.exprs[0];
  const Value callee = Eval(*call.operands[0], scope);
  Args args = EvalArguments(call.arguments.get(), scope);
  args.named.emplace_back("caller", MakeMacro(*stmt.macro, scope));
  rt_.set_line(stmt.line);
  Print(Call(rt_, callee, args));
}

void Evaluator::Assign(const Expr& target, Value value, Scope& scope) {
  if (target.kind == ExprKind::kName) {
    scope.Set(target.symbol, std::move(value));
    return;
  }
  if (target.kind == ExprKind::kNamespaceField) {
    const Value object = EvalName(target.symbol, scope);
    auto* space = object.is_custom() ? dynamic_cast<Namespace*>(object.object()) : nullptr;
    if (space == nullptr) Fail("cannot assign attribute on non-namespace object");
    space->Set(rt_, target.value.text(), std::move(value));
    return;
  }
  if (!IsIterable(value)) Fail("cannot unpack non-iterable {} object", TypeName(value));
  std::vector<Value> items = Iterate(rt_, value);
  const size_t expected = target.operands.size();
  if (items.size() < expected) {
    Fail("not enough values to unpack (expected {}, got {})", expected, items.size());
  }
  if (items.size() > expected) Fail("too many values to unpack (expected {})", expected);
  for (size_t i = 0; i < expected; ++i) Assign(*target.operands[i], std::move(items[i]), scope);
}

Value Evaluator::MakeMacro(const MacroDef& def, Scope& scope) {
  KeepScope(&scope);
  auto* macro = new Macro;
  Value value = rt_.Custom(macro, sizeof(Macro));
  macro->evaluator = this;
  macro->def = &def;
  macro->scope = &scope;
  return value;
}

void Evaluator::BindMacro(const MacroDef& def, const Args& args, Scope& scope) {
  const size_t num_parameters = def.parameters.size();
  std::vector<bool> used(args.named.size(), false);
  for (size_t i = 0; i < num_parameters; ++i) {
    if (i < args.positional.size()) {
      scope.Set(def.parameters[i], args.positional[i]);
      continue;
    }
    const Value* given = nullptr;
    for (size_t k = 0; k < args.named.size(); ++k) {
      if (args.named[k].first != def.parameter_names[i]) continue;
      given = &args.named[k].second;
      used[k] = true;
    }
    const size_t first_default = num_parameters - def.defaults.size();
    if (given != nullptr) {
      scope.Set(def.parameters[i], *given);
    } else if (i >= first_default) {
      scope.Set(def.parameters[i], Eval(*def.defaults[i - first_default], scope));
    } else {
      scope.Set(def.parameters[i], rt_.Undefined(fmt::format("parameter '{}' was not provided",
                                                             def.parameter_names[i])));
    }
  }
  Value caller;
  Value extra = rt_.NewDict();
  for (size_t k = 0; k < args.named.size(); ++k) {
    const auto& [name, value] = args.named[k];
    if (used[k]) continue;
    if (name == "caller" && def.uses_caller) {
      caller = value;
    } else if (def.uses_kwargs) {
      extra.dict().Set(rt_, rt_.String(name), value);
    } else if (name == "caller") {
      Fail("macro '{}' has no use for the caller of a call block: its body calls no caller()",
           def.name);
    } else {
      Fail("macro '{}' takes no keyword argument '{}'", def.name, name);
    }
  }
  const bool has_parameter_caller = std::find(def.parameters.begin(), def.parameters.end(),
                                              syntax_.caller) != def.parameters.end();
  if (def.uses_caller && !has_parameter_caller) {
    scope.Set(syntax_.caller, caller.is_none() ? rt_.Undefined("No caller defined") : caller);
  }
  if (def.uses_kwargs) {
    rt_.SealDict(extra);
    scope.Set(syntax_.kwargs, extra);
  }
  if (args.positional.size() > num_parameters && !def.uses_varargs) {
    Fail("macro '{}' takes not more than {} argument(s)", def.name, num_parameters);
  }
  if (def.uses_varargs) {
    const size_t start = std::min(num_parameters, args.positional.size());
    scope.Set(syntax_.varargs, rt_.Tuple({args.positional.begin() + static_cast<ptrdiff_t>(start),
                                          args.positional.end()}));
  }
}

Value Evaluator::CallMacro(const MacroDef& def, Scope& defined_in, const Args& args) {
  CallGuard guard(rt_);
  const Value holder = NewScope(&defined_in);
  Scope& scope = *static_cast<Scope*>(holder.object());
  BindMacro(def, args, scope);
  Capture capture(*this);
  ExecBlock(def.body, scope);
  return rt_.String(capture.Take());
}

Value Evaluator::Recurse(Loop& loop, const Args& args) {
  if (loop.stmt == nullptr || !loop.stmt->recursive) {
    Fail("the loop must have the 'recursive' marker to be called recursively");
  }
  if (args.positional.size() != 1 || !args.named.empty()) Fail("loop() takes one iterable");
  CallGuard guard(rt_);
  Capture capture(*this);
  RunLoop(*loop.stmt, *loop.scope, Iterate(rt_, args.positional[0]), loop.depth0 + 1);
  return rt_.String(capture.Take());
}

// ---- The loop variable.

bool Loop::Have(size_t count) {
  while (items.size() < count && next_source < source.size() && evaluator != nullptr) {
    const Value item = source[next_source++];
    if (evaluator->LoopAccepts(*stmt, *scope, item)) items.push_back(item);
  }
  return items.size() >= count;
}

std::optional<int64_t> Loop::Length(Runtime& rt) {
  Have(static_cast<size_t>(-1));
  return static_cast<int64_t>(items.size());
}

Value Loop::Call(Runtime& rt, const Args& args) {
  if (evaluator == nullptr) Fail("the loop is over and cannot be called");
  return evaluator->Recurse(*this, args);
}

Value Loop::Changed(Runtime& rt, const Args& args) {
  bool same = has_changed && last_changed.size() == args.positional.size();
  for (size_t i = 0; same && i < last_changed.size(); ++i) {
    same = Equals(rt, last_changed[i], args.positional[i]);
  }
  if (same) return false;
  if (!has_changed) {
    rt.KeepUntilEnd(Value(Type::kObject, this), [](Object& object) {
      static_cast<Loop&>(object).last_changed.clear();
      static_cast<Loop&>(object).items.clear();
      static_cast<Loop&>(object).source.clear();
    });
  }
  has_changed = true;
  last_changed = args.positional;
  return true;
}

namespace {

Value LoopCycle(Runtime& rt, const Value& self, const Args& args) {
  if (args.positional.empty()) Fail("no items for cycling given");
  const auto& loop = static_cast<Loop&>(self.custom());
  return args.positional[loop.index0 % args.positional.size()];
}

Value LoopChanged(Runtime& rt, const Value& self, const Args& args) {
  return static_cast<Loop&>(self.custom()).Changed(rt, args);
}

constexpr Function kLoopCycle = {"cycle", LoopCycle};
constexpr Function kLoopChanged = {"changed", LoopChanged};

}  // namespace

std::optional<Value> Loop::GetAttribute(Runtime& rt, std::string_view name) {
  const auto at = static_cast<int64_t>(index0);
  if (name == "index0") return Value(at);
  if (name == "index") return Value(at + 1);
  if (name == "first") return Value(index0 == 0);
  if (name == "last") return Value(!Have(index0 + 2));
  if (name == "length") return Value(*Length(rt));
  if (name == "revindex") return Value(*Length(rt) - at);
  if (name == "revindex0") return Value(*Length(rt) - at - 1);
  if (name == "depth0") return Value(depth0);
  if (name == "depth") return Value(depth0 + 1);
  if (name == "previtem") {
    return index0 == 0 ? rt.Undefined("there is no previous item") : items[index0 - 1];
  }
  if (name == "nextitem") {
    return Have(index0 + 2) ? items[index0 + 1] : rt.Undefined("there is no next item");
  }
  if (name == "cycle") return MakeFunction(rt, Value(Type::kObject, this), &kLoopCycle);
  if (name == "changed") return MakeFunction(rt, Value(Type::kObject, this), &kLoopChanged);
  return std::nullopt;
}

// ---- Namespaces.

std::string Namespace::Repr() const { return "<Namespace>"; }

std::optional<Value> Namespace::GetAttribute(Runtime& rt, std::string_view name) {
  for (const auto& [field, value] : fields) {
    if (field == name) return value;
  }
  return std::nullopt;
}

void Namespace::Set(Runtime& rt, std::string_view name, Value value) {
  for (auto& [field, old] : fields) {
    if (field == name) {
      old = std::move(value);
      return;
    }
  }
  fields.emplace_back(std::string(name), std::move(value));
}

}  // namespace trireme::jinja
