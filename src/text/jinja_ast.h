// SPDX-License-Identifier: Apache-2.0
// The parsed template. Immutable once parsed; shared by renders on any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja_value.h"

namespace trireme::jinja {

struct Filter;
struct Predicate;
struct Expr;
struct Stmt;
using ExprPtr = std::unique_ptr<Expr>;
using Block = std::vector<std::unique_ptr<Stmt>>;

enum class ExprKind : uint8_t {
  kConst,           // value
  kName,            // symbol
  kNamespaceField,  // target only: symbol "." value
  kTuple,           // operands
  kList,            // operands
  kDict,            // operands: key, value, key, value ...
  kAttribute,       // operands[0] "." value
  kItem,            // operands[0] "[" operands[1] "]"
  kSlice,           // operands[0] "[" start ":" stop ":" step "]"; absent parts are null
  kCall,            // operands[0] "(" arguments ")"
  kFilter,          // operands[0] "|" name "(" arguments ")"; no operand in a filter block
  kTest,            // operands[0] "is" name "(" arguments ")"
  kNot,
  kNegative,
  kPositive,
  kBinary,     // operands[0] op operands[1]
  kCompare,    // operands[0] ops[0] operands[1] ops[1] operands[2] ...
  kConcat,     // operands[0] "~" operands[1] ...
  kAnd,        // operands
  kOr,         // operands
  kCondition,  // operands[0] "if" operands[1] "else" operands[2], which may be null
};

enum class Op : uint8_t {
  kAdd,
  kSub,
  kMul,
  kDiv,
  kFloorDiv,
  kMod,
  kPow,
  kEq,
  kNe,
  kLt,
  kLe,
  kGt,
  kGe,
  kIn,
  kNotIn,
};

struct Arguments {
  std::vector<ExprPtr> positional;
  std::vector<std::pair<std::string, ExprPtr>> named;
  ExprPtr list;  // *list
  ExprPtr dict;  // **dict
};

struct Expr {
  ExprKind kind = ExprKind::kConst;
  int line = 1;
  int depth = 1;
  int symbol = -1;
  Value value;
  std::vector<ExprPtr> operands;
  std::vector<Op> ops;
  std::unique_ptr<Arguments> arguments;
  std::string name;
  const Filter* filter = nullptr;        // null: unknown, fails when reached
  const Predicate* predicate = nullptr;  // null: unknown, fails when reached
};

enum class StmtKind : uint8_t {
  kText,         // text
  kPrint,        // exprs, one after the other
  kIf,           // exprs[i] -> blocks[i]; one more block is the else
  kFor,          // target in exprs[0] if exprs[1]; blocks: body, else
  kSet,          // target = exprs[0]
  kSetBlock,     // target = blocks[0] through the filters exprs[0], which may be null
  kMacro,        // macro
  kCallBlock,    // macro is the caller, exprs[0] the call
  kFilterBlock,  // blocks[0] through the filters exprs[0]
  kWith,         // targets = exprs, blocks[0]
  kScope,        // blocks[0]
  kBreak,
  kContinue,
};

struct MacroDef {
  std::string name;
  int symbol = -1;
  std::vector<int> parameters;
  std::vector<std::string> parameter_names;
  std::vector<ExprPtr> defaults;  // of the last parameters
  Block body;
  bool uses_caller = false;
  bool uses_kwargs = false;
  bool uses_varargs = false;
};

struct Stmt {
  StmtKind kind = StmtKind::kText;
  int line = 1;
  std::string text;
  std::vector<ExprPtr> targets;
  std::vector<ExprPtr> exprs;
  std::vector<Block> blocks;
  std::unique_ptr<MacroDef> macro;
  bool recursive = false;
  bool detached = false;  // a scope that sees template variables only: {% block %}
};

struct Syntax {
  Syntax() = default;
  Syntax(Syntax&&) = default;
  ~Syntax() {
    body.clear();  // it refers to the constants
    for (Object* constant : constants) delete constant;
  }

  Block body;
  std::vector<std::string> symbols;  // names by Expr::symbol
  std::vector<Object*> constants;    // owned
  // Symbols with a meaning to the evaluator.
  int loop = -1;
  int caller = -1;
  int kwargs = -1;
  int varargs = -1;
};

}  // namespace trireme::jinja
