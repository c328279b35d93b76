// SPDX-License-Identifier: Apache-2.0
// Expressions and the plumbing of the evaluator; statements are in jinja_exec.cc. One thread.
#include "text/jinja_eval.h"

#include "text/jinja_filters.h"
#include "text/jinja_operators.h"

namespace trireme::jinja {

const Value* Scope::FindHere(int symbol) const {
  for (const auto& [name, value] : variables) {
    if (name == symbol) return &value;
  }
  return nullptr;
}

const Value* Scope::Find(int symbol) const {
  for (const Scope* scope = this; scope != nullptr; scope = scope->parent) {
    if (const Value* value = scope->FindHere(symbol)) return value;
  }
  return nullptr;
}

void Scope::Set(int symbol, Value value) {
  for (auto& [name, old] : variables) {
    if (name == symbol) {
      old = std::move(value);
      return;
    }
  }
  variables.emplace_back(symbol, std::move(value));
}

Evaluator::Evaluator(const Syntax& syntax, Runtime& rt, const DictObject& variables,
                     const DictObject* defaults)
    : syntax_(syntax), rt_(rt), variables_(variables), defaults_(defaults) {}

Value Evaluator::NewScope(Scope* parent) { return rt_.Custom(new Scope(parent), sizeof(Scope)); }

void Evaluator::KeepScope(Scope* scope) {
  for (; scope != nullptr && !scope->kept; scope = scope->parent) {
    scope->kept = true;
    rt_.KeepUntilEnd(Value(Type::kObject, scope),
                     [](Object& object) { static_cast<Scope&>(object).variables.clear(); });
  }
}

void Evaluator::EnterNode() {
  if (++depth_ > kMaxEvalDepth) {
    FailLimit(
        fmt::format("the template evaluates more than {} nodes within each other", kMaxEvalDepth));
  }
}

Value Evaluator::Eval(const Expr& expr, Scope& scope) {
  rt_.Step();
  EnterNode();
  rt_.set_line(expr.line);
  Value value = EvalInner(expr, scope);
  --depth_;
  return value;
}

Value Evaluator::EvalInner(const Expr& expr, Scope& scope) {
  const auto operand = [&](size_t i) { return Eval(*expr.operands[i], scope); };
  switch (expr.kind) {
    case ExprKind::kConst: return expr.value;
    case ExprKind::kName: return EvalName(expr.symbol, scope);
    case ExprKind::kNamespaceField: break;
    case ExprKind::kTuple: return rt_.Tuple(EvalAll(expr.operands, scope));
    case ExprKind::kList: return rt_.List(EvalAll(expr.operands, scope));
    case ExprKind::kDict: return EvalDict(expr, scope);
    case ExprKind::kAttribute: return GetAttribute(rt_, operand(0), expr.value);
    case ExprKind::kItem: {
      const Value object = operand(0);
      return GetItem(rt_, object, operand(1));
    }
    case ExprKind::kSlice: return EvalSlice(expr, scope);
    case ExprKind::kCall: return EvalCall(expr, scope);
    case ExprKind::kFilter: return EvalFilter(expr, scope, nullptr);
    case ExprKind::kTest: return EvalTest(expr, scope);
    case ExprKind::kNot: return !Truth(rt_, operand(0));
    case ExprKind::kNegative: return Negative(operand(0));
    case ExprKind::kPositive: return Positive(operand(0));
    case ExprKind::kBinary: {
      const Value left = operand(0);
      return Binary(rt_, expr.ops[0], left, operand(1));
    }
    case ExprKind::kCompare: return EvalCompare(expr, scope);
    case ExprKind::kConcat: return EvalConcat(expr, scope);
    case ExprKind::kAnd:
    case ExprKind::kOr: {
      Value value;
      for (const ExprPtr& part : expr.operands) {
        value = Eval(*part, scope);
        if (Truth(rt_, value) == (expr.kind == ExprKind::kOr)) break;
      }
      return value;
    }
    case ExprKind::kCondition: return EvalCondition(expr, scope);
  }
  Fail("an assignment target is no expression");
}

Value Evaluator::EvalName(int symbol, Scope& scope) {
  if (const Value* value = scope.Find(symbol)) return *value;
  const std::string& name = syntax_.symbols[static_cast<size_t>(symbol)];
  if (const Value* value = variables_.Find(name)) return *value;
  if (defaults_ != nullptr) {
    if (const Value* value = defaults_->Find(name)) return *value;
  }
  if (const Function* function = FindGlobal(name)) return MakeFunction(rt_, Value(), function);
  return rt_.UndefinedName(name);
}

std::vector<Value> Evaluator::EvalAll(const std::vector<ExprPtr>& exprs, Scope& scope) {
  std::vector<Value> values;
  values.reserve(exprs.size());
  for (const ExprPtr& expr : exprs) values.push_back(Eval(*expr, scope));
  return values;
}

Value Evaluator::EvalDict(const Expr& expr, Scope& scope) {
  Value dict = rt_.NewDict();
  for (size_t i = 0; i + 1 < expr.operands.size(); i += 2) {
    Value key = Eval(*expr.operands[i], scope);
    Value value = Eval(*expr.operands[i + 1], scope);
    dict.dict().Set(rt_, std::move(key), std::move(value));
  }
  rt_.SealDict(dict);
  return dict;
}

Value Evaluator::EvalSlice(const Expr& expr, Scope& scope) {
  const auto part = [&](size_t i) {
    return expr.operands[i] == nullptr ? Value() : Eval(*expr.operands[i], scope);
  };
  const Value object = Eval(*expr.operands[0], scope);
  const Value start = part(1);
  const Value stop = part(2);
  return GetSlice(rt_, object, start, stop, part(3));
}

Args Evaluator::EvalArguments(const Arguments* arguments, Scope& scope) {
  Args args;
  if (arguments == nullptr) return args;
  args.positional = EvalAll(arguments->positional, scope);
  for (const auto& [name, expr] : arguments->named) {
    for (const auto& [other, unused] : args.named) {
      if (other == name) Fail("got multiple values for keyword argument '{}'", name);
    }
    args.named.emplace_back(name, Eval(*expr, scope));
  }
  if (arguments->list != nullptr) {
    for (Value& item : Iterate(rt_, Eval(*arguments->list, scope))) {
      args.positional.push_back(std::move(item));
    }
  }
  if (arguments->dict != nullptr) {
    const Value dict = Eval(*arguments->dict, scope);
    if (!dict.is_dict()) Fail("argument after ** must be a mapping, not {}", TypeName(dict));
    for (const auto& [key, value] : dict.dict().entries) {
      if (!key.is_string()) Fail("keywords must be strings");
      args.named.emplace_back(key.text(), value);
    }
  }
  return args;
}

Value Evaluator::EvalCall(const Expr& expr, Scope& scope) {
  const Value callee = Eval(*expr.operands[0], scope);
  const Args args = EvalArguments(expr.arguments.get(), scope);
  rt_.set_line(expr.line);
  return Call(rt_, callee, args);
}

Value Evaluator::EvalFilter(const Expr& expr, Scope& scope, const Value* block_text) {
  if (expr.filter == nullptr) Fail("no filter named '{}'", expr.name);
  Value input;
  const Expr* operand = expr.operands[0].get();
  if (operand == nullptr) {
    input = *block_text;
  } else if (block_text != nullptr) {
    input = EvalFilter(*operand, scope, block_text);
  } else {
    input = Eval(*operand, scope);
  }
  const Args args = EvalArguments(expr.arguments.get(), scope);
  rt_.set_line(expr.line);
  return expr.filter->apply(rt_, input, args);
}

Value Evaluator::EvalTest(const Expr& expr, Scope& scope) {
  if (expr.predicate == nullptr) Fail("no test named '{}'", expr.name);
  const Value input = Eval(*expr.operands[0], scope);
  const Args args = EvalArguments(expr.arguments.get(), scope);
  rt_.set_line(expr.line);
  return expr.predicate->holds(rt_, input, args);
}

Value Evaluator::EvalCompare(const Expr& expr, Scope& scope) {
  Value left = Eval(*expr.operands[0], scope);
  for (size_t i = 0; i < expr.ops.size(); ++i) {
    Value right = Eval(*expr.operands[i + 1], scope);
    if (!Compare(rt_, expr.ops[i], left, right)) return false;
    left = std::move(right);
  }
  return true;
}

Value Evaluator::EvalConcat(const Expr& expr, Scope& scope) {
  std::string text;
  for (const Value& value : EvalAll(expr.operands, scope)) AppendStr(rt_, value, &text);
  return rt_.String(std::move(text));
}

Value Evaluator::EvalCondition(const Expr& expr, Scope& scope) {
  if (Truth(rt_, Eval(*expr.operands[1], scope))) return Eval(*expr.operands[0], scope);
  if (expr.operands[2] != nullptr) return Eval(*expr.operands[2], scope);
  return rt_.Undefined(
      "the inline if-expression evaluated to false and no else section was defined.");
}

}  // namespace trireme::jinja
