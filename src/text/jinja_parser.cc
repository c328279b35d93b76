// SPDX-License-Identifier: Apache-2.0
// Recursive descent over the tokens, one class for statements and expressions. Thread-safe.
#include "text/jinja_parser.h"

#include <charconv>
#include <initializer_list>
#include <map>

#include "text/jinja_filters.h"
#include "text/jinja_lexer.h"
#include "text/jinja_runtime.h"

namespace trireme::jinja {
namespace {

class DepthGuard {
 public:
  explicit DepthGuard(int* depth) : depth_(depth) {
    if (++*depth_ > kMaxSyntaxDepth) {
      --*depth_;
      FailLimit(fmt::format("tags or brackets are nested deeper than {} levels", kMaxSyntaxDepth));
    }
  }
  ~DepthGuard() { --*depth_; }
  DepthGuard(const DepthGuard&) = delete;
  DepthGuard& operator=(const DepthGuard&) = delete;

 private:
  int* depth_;
};

class Parser {
 public:
  Parser(std::vector<Token> tokens, int* line)
      : tokens_(std::move(tokens)), line_(line), syntax_(std::make_unique<Syntax>()) {}

  std::unique_ptr<const Syntax> Run() {
    syntax_->loop = Intern("loop");
    syntax_->caller = Intern("caller");
    syntax_->kwargs = Intern("kwargs");
    syntax_->varargs = Intern("varargs");
    syntax_->body = ParseBlock({});
    FailUnknown(0);
    return std::move(syntax_);
  }

 private:
  using EndTags = std::initializer_list<std::string_view>;

  struct Unknown {
    int line;
    std::string message;
  };

  // ---- Tokens.
  const Token& Now() const { return tokens_[at_]; }
  const Token& Next() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  Token Take() {
    Token token = Now();
    if (at_ + 1 < tokens_.size()) ++at_;
    *line_ = Now().line;
    return token;
  }
  bool SkipName(std::string_view name) { return Now().IsName(name) && (Take(), true); }
  bool SkipOperator(std::string_view op) { return Now().IsOperator(op) && (Take(), true); }
  [[noreturn]] void FailHere(std::string_view expected) {
    Fail("expected {}, got {}", expected, Describe(Now()));
  }
  void ExpectOperator(std::string_view op) {
    if (!SkipOperator(op)) FailHere(fmt::format("'{}'", op));
  }
  std::string ExpectName() {
    if (Now().type != TokenType::kName) FailHere("a name");
    return Take().text;
  }
  void Expect(TokenType type, std::string_view what) {
    if (Now().type != type) FailHere(what);
    Take();
  }

  int Intern(const std::string& name) {
    const auto [at, is_new] = symbols_.emplace(name, static_cast<int>(syntax_->symbols.size()));
    if (is_new) syntax_->symbols.push_back(name);
    return at->second;
  }

  Value Constant(std::string text) {
    Value value = Value::FrozenString(std::move(text));
    syntax_->constants.push_back(value.object());
    return value;
  }

  // Reports the first unknown filter or test after `from`. Under a condition they are forgotten
  // before this is called: there they fail only when they are reached.
  void FailUnknown(size_t from) {
    if (unknown_.size() <= from) return;
    *line_ = unknown_[from].line;
    Fail(unknown_[from].message);
  }

  // ---- Nodes.
  ExprPtr Make(ExprKind kind, int line) {
    auto expr = std::make_unique<Expr>();
    expr->kind = kind;
    expr->line = line;
    return expr;
  }

  void Adopt(Expr& parent, ExprPtr child) {
    if (child != nullptr) {
      parent.depth = std::max(parent.depth, child->depth + 1);
      if (parent.depth > kMaxExpressionDepth) {
        FailLimit(fmt::format("an expression stacks more than {} operators", kMaxExpressionDepth));
      }
    }
    parent.operands.push_back(std::move(child));
  }

  ExprPtr MakeConst(Value value, int line) {
    ExprPtr expr = Make(ExprKind::kConst, line);
    expr->value = std::move(value);
    return expr;
  }

  ExprPtr MakeBinary(ExprKind kind, int line, ExprPtr left, ExprPtr right) {
    ExprPtr expr = Make(kind, line);
    Adopt(*expr, std::move(left));
    Adopt(*expr, std::move(right));
    return expr;
  }

  std::unique_ptr<Stmt> MakeStmt(StmtKind kind, int line) {
    auto stmt = std::make_unique<Stmt>();
    stmt->kind = kind;
    stmt->line = line;
    return stmt;
  }

  // ---- Statements.

  // Statements up to a tag of `ends`, whose name is the current token on return; to the end of the
  // template when `ends` is empty.
  Block ParseBlock(EndTags ends) {
    DepthGuard guard(&depth_);
    const int begin_line = *line_;
    Block body;
    while (true) {
      switch (Now().type) {
        case TokenType::kData: {
          auto stmt = MakeStmt(StmtKind::kText, Now().line);
          stmt->text = Take().text;
          body.push_back(std::move(stmt));
          break;
        }
        case TokenType::kVariableBegin: {
          auto stmt = MakeStmt(StmtKind::kPrint, Take().line);
          stmt->exprs.push_back(ParseTuple(true, false));
          Expect(TokenType::kVariableEnd, "'}}'");
          body.push_back(std::move(stmt));
          break;
        }
        case TokenType::kBlockBegin: {
          Take();
          for (std::string_view end : ends) {
            if (Now().IsName(end)) return body;
          }
          if (auto stmt = ParseStatement()) body.push_back(std::move(stmt));
          Expect(TokenType::kBlockEnd, "'%}'");
          break;
        }
        default:
          if (ends.size() != 0) {
            Fail("the template ends inside a tag opened at line {}; '{}' is missing", begin_line,
                 *(ends.end() - 1));
          }
          return body;
      }
    }
  }

  // The body after a tag's head, up to an end tag; `last` means the end tag's name is consumed.
  Block ParseBody(EndTags ends, bool last = true) {
    SkipOperator(":");
    Expect(TokenType::kBlockEnd, "'%}'");
    Block body = ParseBlock(ends);
    if (last) Take();
    return body;
  }

  // A body that is a function to Jinja: loops and conditions outside do not count.
  Block ParseDetachedBody(EndTags ends, bool keeps_loops) {
    const int outer_loops = loops_;
    const size_t num_unknown = unknown_.size();
    if (!keeps_loops) loops_ = 0;
    Block body = ParseBody(ends);
    loops_ = outer_loops;
    FailUnknown(num_unknown);
    return body;
  }

  std::unique_ptr<Stmt> ParseStatement() {
    if (Now().type != TokenType::kName) FailHere("the name of a tag");
    const Token tag = Take();
    const std::string& name = tag.text;
    if (name == "if") return ParseIf(tag.line);
    if (name == "for") return ParseFor(tag.line);
    if (name == "set") return ParseSet(tag.line);
    if (name == "macro") return ParseMacro(tag.line);
    if (name == "call") return ParseCallBlock(tag.line);
    if (name == "filter") return ParseFilterBlock(tag.line);
    if (name == "with") return ParseWith(tag.line);
    if (name == "print") return ParsePrint(tag.line);
    if (name == "generation") return ParseScope(tag.line, "endgeneration");
    if (name == "block") return ParseNamedBlock(tag.line);
    if (name == "autoescape") return ParseAutoescape(tag.line);
    if (name == "break" || name == "continue") return ParseLoopControl(tag);
    if (name == "include" || name == "import" || name == "from" || name == "extends") {
      throw Error{
          StatusCode::kUnimplemented,
          fmt::format("'{}' is refused: a chat template is one file and reads no other", name)};
    }
    Fail("unknown tag '{}'", name);
  }

  std::unique_ptr<Stmt> ParseIf(int line) {
    auto stmt = MakeStmt(StmtKind::kIf, line);
    const size_t num_unknown = unknown_.size();
    while (true) {
      stmt->exprs.push_back(ParseTuple(false, false));
      stmt->blocks.push_back(ParseBody({"elif", "else", "endif"}, false));
      const Token end = Take();
      if (end.text == "elif") continue;
      if (end.text == "else") stmt->blocks.push_back(ParseBody({"endif"}));
      unknown_.resize(num_unknown);
      return stmt;
    }
  }

  std::unique_ptr<Stmt> ParseFor(int line) {
    auto stmt = MakeStmt(StmtKind::kFor, line);
    stmt->targets.push_back(ParseTarget(false, true));
    if (!SkipName("in")) FailHere("'in'");
    stmt->exprs.push_back(ParseTuple(false, false, "recursive"));
    if (SkipName("if")) stmt->exprs.push_back(ParseExpression());
    stmt->recursive = SkipName("recursive");
    const size_t num_unknown = unknown_.size();
    ++loops_;
    stmt->blocks.push_back(ParseBody({"else", "endfor"}, false));
    --loops_;
    if (Take().text == "else") stmt->blocks.push_back(ParseBody({"endfor"}));
    FailUnknown(num_unknown);
    return stmt;
  }

  std::unique_ptr<Stmt> ParseSet(int line) {
    auto stmt = MakeStmt(StmtKind::kSet, line);
    stmt->targets.push_back(ParseTarget(true, false));
    if (SkipOperator("=")) {
      stmt->exprs.push_back(ParseTuple(true, false));
      return stmt;
    }
    stmt->kind = StmtKind::kSetBlock;
    stmt->exprs.push_back(ParseFilters(nullptr));
    stmt->blocks.push_back(ParseDetachedBody({"endset"}, true));
    return stmt;
  }

  void ParseSignature(MacroDef& macro) {
    ExpectOperator("(");
    while (!Now().IsOperator(")")) {
      if (!macro.parameters.empty()) {
        ExpectOperator(",");
        if (Now().IsOperator(")")) break;
      }
      const std::string name = ExpectName();
      macro.parameters.push_back(Intern(name));
      macro.parameter_names.push_back(name);
      if (SkipOperator("=")) {
        macro.defaults.push_back(ParseExpression());
      } else if (!macro.defaults.empty()) {
        Fail("parameter '{}' without a default follows one with a default", name);
      }
    }
    ExpectOperator(")");
  }

  void ParseMacroBody(MacroDef& macro, std::string_view end) {
    macros_.push_back(&macro);
    macro.body = ParseDetachedBody({end}, false);
    macros_.pop_back();
    for (const std::string& name : macro.parameter_names) {
      if (name == "caller") macro.uses_caller = true;
      if (name == "kwargs") macro.uses_kwargs = false;
      if (name == "varargs") macro.uses_varargs = false;
    }
  }

  std::unique_ptr<Stmt> ParseMacro(int line) {
    auto stmt = MakeStmt(StmtKind::kMacro, line);
    stmt->macro = std::make_unique<MacroDef>();
    stmt->macro->name = ExpectName();
    stmt->macro->symbol = Intern(stmt->macro->name);
    ParseSignature(*stmt->macro);
    ParseMacroBody(*stmt->macro, "endmacro");
    return stmt;
  }

  std::unique_ptr<Stmt> ParseCallBlock(int line) {
    auto stmt = MakeStmt(StmtKind::kCallBlock, line);
    stmt->macro = std::make_unique<MacroDef>();
    stmt->macro->name = "caller";
    if (Now().IsOperator("(")) ParseSignature(*stmt->macro);
    stmt->exprs.push_back(ParseExpression());
    if (stmt->exprs[0]->kind != ExprKind::kCall) Fail("the 'call' tag needs a call");
    ParseMacroBody(*stmt->macro, "endcall");
    return stmt;
  }

  std::unique_ptr<Stmt> ParseFilterBlock(int line) {
    auto stmt = MakeStmt(StmtKind::kFilterBlock, line);
    ExprPtr first = ParseFilterTail(nullptr);
    stmt->exprs.push_back(ParseFilters(std::move(first)));
    stmt->blocks.push_back(ParseDetachedBody({"endfilter"}, true));
    return stmt;
  }

  std::unique_ptr<Stmt> ParseWith(int line) {
    auto stmt = MakeStmt(StmtKind::kWith, line);
    while (Now().type != TokenType::kBlockEnd) {
      if (!stmt->targets.empty()) ExpectOperator(",");
      stmt->targets.push_back(ParseTarget(false, true));
      ExpectOperator("=");
      stmt->exprs.push_back(ParseExpression());
    }
    stmt->blocks.push_back(ParseDetachedBody({"endwith"}, true));
    return stmt;
  }

  std::unique_ptr<Stmt> ParsePrint(int line) {
    auto stmt = MakeStmt(StmtKind::kPrint, line);
    while (Now().type != TokenType::kBlockEnd) {
      if (!stmt->exprs.empty()) ExpectOperator(",");
      stmt->exprs.push_back(ParseExpression());
    }
    return stmt;
  }

  std::unique_ptr<Stmt> ParseScope(int line, std::string_view end) {
    auto stmt = MakeStmt(StmtKind::kScope, line);
    stmt->blocks.push_back(ParseDetachedBody({end}, false));
    return stmt;
  }

  std::unique_ptr<Stmt> ParseNamedBlock(int line) {
    const std::string name = ExpectName();
    const bool scoped = SkipName("scoped");
    SkipName("required");
    auto stmt = ParseScope(line, "endblock");
    SkipName(name);
    stmt->detached = !scoped;
    return stmt;
  }

  std::unique_ptr<Stmt> ParseAutoescape(int line) {
    const ExprPtr on = ParseExpression();
    if (on->kind != ExprKind::kConst || !on->value.is_bool() || on->value.bool_value()) {
      throw Error{StatusCode::kUnimplemented,
                  "'autoescape' other than false is refused: prompts are not HTML"};
    }
    auto stmt = MakeStmt(StmtKind::kScope, line);
    stmt->blocks.push_back(ParseDetachedBody({"endautoescape"}, true));
    return stmt;
  }

  std::unique_ptr<Stmt> ParseLoopControl(const Token& tag) {
    if (loops_ == 0) Fail("'{}' outside a loop", tag.text);
    return MakeStmt(tag.text == "break" ? StmtKind::kBreak : StmtKind::kContinue, tag.line);
  }

  // ---- Targets of assignments.
  ExprPtr ParseTarget(bool with_namespace, bool ends_with_in) {
    auto one = [&] { return ParseTargetPrimary(with_namespace); };
    ExprPtr first = one();
    if (!Now().IsOperator(",")) return first;
    ExprPtr tuple = Make(ExprKind::kTuple, first->line);
    Adopt(*tuple, std::move(first));
    while (SkipOperator(",")) {
      if ((ends_with_in && Now().IsName("in")) || Now().IsOperator("=")) break;
      Adopt(*tuple, one());
    }
    return tuple;
  }

  ExprPtr ParseTargetPrimary(bool with_namespace) {
    DepthGuard guard(&depth_);
    const int line = Now().line;
    if (SkipOperator("(")) {
      ExprPtr inner = ParseTarget(with_namespace, false);
      ExpectOperator(")");
      return inner;
    }
    const std::string name = ExpectName();
    for (std::string_view reserved : {"true", "false", "none", "True", "False", "None"}) {
      if (name == reserved) Fail("cannot assign to '{}'", name);
    }
    ExprPtr target = Make(ExprKind::kName, line);
    target->symbol = Intern(name);
    if (with_namespace && SkipOperator(".")) {
      target->kind = ExprKind::kNamespaceField;
      target->value = Constant(ExpectName());
    }
    return target;
  }

  // ---- Expressions, from loose to tight.
  ExprPtr ParseExpression(bool with_condition = true) {
    DepthGuard guard(&depth_);
    return with_condition ? ParseCondition() : ParseOr();
  }

  // One expression, or a tuple when commas follow. `parenthesised` allows the empty tuple.
  ExprPtr ParseTuple(bool with_condition, bool parenthesised, std::string_view end_name = {}) {
    const int line = Now().line;
    ExprPtr tuple = Make(ExprKind::kTuple, line);
    bool is_tuple = false;
    while (true) {
      const Token& now = Now();
      if (now.type == TokenType::kVariableEnd || now.type == TokenType::kBlockEnd ||
          now.IsOperator(")") || (!end_name.empty() && now.IsName(end_name))) {
        break;
      }
      ExprPtr item = ParseExpression(with_condition);
      if (!is_tuple && !Now().IsOperator(",")) return item;
      Adopt(*tuple, std::move(item));
      if (!SkipOperator(",")) break;
      is_tuple = true;
    }
    if (!is_tuple && !parenthesised) FailHere("an expression");
    return tuple;
  }

  ExprPtr ParseCondition() {
    const int line = Now().line;
    const size_t num_unknown = unknown_.size();
    ExprPtr value = ParseOr();
    while (SkipName("if")) {
      ExprPtr expr = MakeBinary(ExprKind::kCondition, line, std::move(value), ParseOr());
      Adopt(*expr, SkipName("else") ? ParseExpression() : nullptr);
      unknown_.resize(num_unknown);
      value = std::move(expr);
    }
    return value;
  }

  ExprPtr ParseOr() {
    const int line = Now().line;
    ExprPtr left = ParseAnd();
    if (!Now().IsName("or")) return left;
    ExprPtr expr = Make(ExprKind::kOr, line);
    Adopt(*expr, std::move(left));
    while (SkipName("or")) Adopt(*expr, ParseAnd());
    return expr;
  }

  ExprPtr ParseAnd() {
    const int line = Now().line;
    ExprPtr left = ParseNot();
    if (!Now().IsName("and")) return left;
    ExprPtr expr = Make(ExprKind::kAnd, line);
    Adopt(*expr, std::move(left));
    while (SkipName("and")) Adopt(*expr, ParseNot());
    return expr;
  }

  ExprPtr ParseNot() {
    const int line = Now().line;
    if (!SkipName("not")) return ParseCompare();
    DepthGuard guard(&depth_);
    ExprPtr expr = Make(ExprKind::kNot, line);
    Adopt(*expr, ParseNot());
    return expr;
  }

  // The comparison at the current token, consumed.
  bool TakeComparison(Op* op) {
    static constexpr std::pair<std::string_view, Op> kOps[] = {
        {"==", Op::kEq}, {"!=", Op::kNe}, {"<", Op::kLt},
        {"<=", Op::kLe}, {">", Op::kGt},  {">=", Op::kGe},
    };
    for (const auto& [text, candidate] : kOps) {
      if (SkipOperator(text)) return *op = candidate, true;
    }
    if (SkipName("in")) return *op = Op::kIn, true;
    if (Now().IsName("not") && Next().IsName("in")) {
      Take();
      Take();
      return *op = Op::kNotIn, true;
    }
    return false;
  }

  ExprPtr ParseCompare() {
    const int line = Now().line;
    ExprPtr left = ParseSum();
    ExprPtr expr;
    Op op;
    while (TakeComparison(&op)) {
      if (expr == nullptr) {
        expr = Make(ExprKind::kCompare, line);
        Adopt(*expr, std::move(left));
      }
      expr->ops.push_back(op);
      Adopt(*expr, ParseSum());
    }
    return expr != nullptr ? std::move(expr) : std::move(left);
  }

  ExprPtr MakeOperation(Op op, int line, ExprPtr left, ExprPtr right) {
    ExprPtr expr = MakeBinary(ExprKind::kBinary, line, std::move(left), std::move(right));
    expr->ops.push_back(op);
    return expr;
  }

  ExprPtr ParseSum() {
    ExprPtr left = ParseConcat();
    while (Now().IsOperator("+") || Now().IsOperator("-")) {
      const Token op = Take();
      left = MakeOperation(op.text == "+" ? Op::kAdd : Op::kSub, op.line, std::move(left),
                           ParseConcat());
    }
    return left;
  }

  ExprPtr ParseConcat() {
    const int line = Now().line;
    ExprPtr left = ParseProduct();
    if (!Now().IsOperator("~")) return left;
    ExprPtr expr = Make(ExprKind::kConcat, line);
    Adopt(*expr, std::move(left));
    while (SkipOperator("~")) Adopt(*expr, ParseProduct());
    return expr;
  }

  ExprPtr ParseProduct() {
    static constexpr std::pair<std::string_view, Op> kOps[] = {
        {"*", Op::kMul}, {"/", Op::kDiv}, {"//", Op::kFloorDiv}, {"%", Op::kMod}};
    ExprPtr left = ParsePower();
    while (true) {
      const std::pair<std::string_view, Op>* found = nullptr;
      for (const auto& candidate : kOps) {
        if (Now().IsOperator(candidate.first)) found = &candidate;
      }
      if (found == nullptr) return left;
      const int line = Take().line;
      left = MakeOperation(found->second, line, std::move(left), ParsePower());
    }
  }

  ExprPtr ParsePower() {
    ExprPtr left = ParseUnary(true);
    while (Now().IsOperator("**")) {
      const int line = Take().line;
      left = MakeOperation(Op::kPow, line, std::move(left), ParseUnary(true));
    }
    return left;
  }

  ExprPtr ParseUnary(bool with_filter) {
    const int line = Now().line;
    ExprPtr expr;
    if (Now().IsOperator("-") || Now().IsOperator("+")) {
      DepthGuard guard(&depth_);
      expr = Make(Take().text == "-" ? ExprKind::kNegative : ExprKind::kPositive, line);
      Adopt(*expr, ParseUnary(false));
    } else {
      expr = ParsePrimary();
    }
    expr = ParsePostfix(std::move(expr));
    return with_filter ? ParseFiltersAndTests(std::move(expr)) : std::move(expr);
  }

  ExprPtr ParsePrimary() {
    const Token& now = Now();
    switch (now.type) {
      case TokenType::kName: return ParseName();
      case TokenType::kInteger:
      case TokenType::kFloat: return ParseNumber();
      case TokenType::kString: {
        const int line = now.line;
        std::string text;
        while (Now().type == TokenType::kString) text += Take().text;
        return MakeConst(Constant(std::move(text)), line);
      }
      default: break;
    }
    if (now.IsOperator("(")) {
      Take();
      ExprPtr inner = ParseTuple(true, true);
      ExpectOperator(")");
      return inner;
    }
    if (now.IsOperator("[")) return ParseList();
    if (now.IsOperator("{")) return ParseDict();
    FailHere("an expression");
  }

  ExprPtr ParseName() {
    const Token token = Take();
    const std::string& name = token.text;
    if (name == "true" || name == "True") return MakeConst(true, token.line);
    if (name == "false" || name == "False") return MakeConst(false, token.line);
    if (name == "none" || name == "None") return MakeConst(Value(), token.line);
    for (MacroDef* macro : macros_) {
      macro->uses_caller |= name == "caller";
      macro->uses_kwargs |= name == "kwargs";
      macro->uses_varargs |= name == "varargs";
    }
    ExprPtr expr = Make(ExprKind::kName, token.line);
    expr->symbol = Intern(name);
    return expr;
  }

  ExprPtr ParseNumber() {
    const Token token = Take();
    const char* begin = token.text.data();
    const char* end = begin + token.text.size();
    if (token.type == TokenType::kFloat) {
      double number = 0;
      const auto result = std::from_chars(begin, end, number);
      if (result.ec == std::errc::result_out_of_range)
        Fail("number {} is out of range", token.text);
      return MakeConst(number, token.line);
    }
    int base = 10;
    if (token.text.size() > 2 && token.text[0] == '0' && token.text[1] > '9') {
      const char mark = static_cast<char>(token.text[1] | 0x20);
      base = mark == 'x' ? 16 : mark == 'o' ? 8 : 2;
      begin += 2;
    }
    int64_t number = 0;
    const auto result = std::from_chars(begin, end, number, base);
    if (result.ec != std::errc()) Fail("integer {} does not fit 64 bits", token.text);
    return MakeConst(number, token.line);
  }

  ExprPtr ParseList() {
    ExprPtr list = Make(ExprKind::kList, Take().line);
    while (!Now().IsOperator("]")) {
      if (!list->operands.empty()) ExpectOperator(",");
      if (Now().IsOperator("]")) break;
      Adopt(*list, ParseExpression());
    }
    Take();
    return list;
  }

  ExprPtr ParseDict() {
    ExprPtr dict = Make(ExprKind::kDict, Take().line);
    while (!Now().IsOperator("}")) {
      if (!dict->operands.empty()) ExpectOperator(",");
      if (Now().IsOperator("}")) break;
      Adopt(*dict, ParseExpression());
      ExpectOperator(":");
      Adopt(*dict, ParseExpression());
    }
    Take();
    return dict;
  }

  ExprPtr ParsePostfix(ExprPtr expr) {
    while (true) {
      if (Now().IsOperator(".")) {
        expr = ParseAttribute(std::move(expr));
      } else if (Now().IsOperator("[")) {
        expr = ParseSubscript(std::move(expr));
      } else if (Now().IsOperator("(")) {
        expr = ParseCall(std::move(expr));
      } else {
        return expr;
      }
    }
  }

  ExprPtr ParseAttribute(ExprPtr object) {
    const int line = Take().line;
    if (Now().type == TokenType::kInteger) {
      return MakeBinary(ExprKind::kItem, line, std::move(object), ParseNumber());
    }
    if (Now().type != TokenType::kName) FailHere("a name or a number after '.'");
    ExprPtr expr = Make(ExprKind::kAttribute, line);
    expr->value = Constant(Take().text);
    Adopt(*expr, std::move(object));
    return expr;
  }

  ExprPtr ParseSubscript(ExprPtr object) {
    DepthGuard guard(&depth_);
    const int line = Take().line;
    if (Now().IsOperator("]")) FailHere("an index");
    ExprPtr start = Now().IsOperator(":") ? nullptr : ParseExpression();
    if (!Now().IsOperator(":")) {
      if (Now().IsOperator(",")) start = ParseSubscriptTuple(std::move(start));
      ExpectOperator("]");
      return MakeBinary(ExprKind::kItem, line, std::move(object), std::move(start));
    }
    ExprPtr slice = MakeBinary(ExprKind::kSlice, line, std::move(object), std::move(start));
    for (int part = 0; part < 2; ++part) {
      ExprPtr bound;
      if (SkipOperator(":") && !Now().IsOperator(":") && !Now().IsOperator("]")) {
        bound = ParseExpression();
      }
      Adopt(*slice, std::move(bound));
    }
    ExpectOperator("]");
    return slice;
  }

  ExprPtr ParseSubscriptTuple(ExprPtr first) {
    ExprPtr tuple = Make(ExprKind::kTuple, first->line);
    Adopt(*tuple, std::move(first));
    while (SkipOperator(",") && !Now().IsOperator("]")) Adopt(*tuple, ParseExpression());
    return tuple;
  }

  ExprPtr ParseCall(ExprPtr callee) {
    ExprPtr call = Make(ExprKind::kCall, Now().line);
    call->arguments = ParseArguments(*call);
    Adopt(*call, std::move(callee));
    return call;
  }

  std::unique_ptr<Arguments> ParseArguments(Expr& owner) {
    DepthGuard guard(&depth_);
    auto arguments = std::make_unique<Arguments>();
    ExpectOperator("(");
    bool need_comma = false;
    auto expression = [&] {
      ExprPtr expr = ParseExpression();
      owner.depth = std::max(owner.depth, expr->depth + 1);
      return expr;
    };
    while (!Now().IsOperator(")")) {
      if (need_comma) {
        ExpectOperator(",");
        if (Now().IsOperator(")")) break;
      }
      need_comma = true;
      if (SkipOperator("**")) {
        if (arguments->dict != nullptr) Fail("a call has two '**' arguments");
        arguments->dict = expression();
      } else if (SkipOperator("*")) {
        if (arguments->list != nullptr || arguments->dict != nullptr) {
          Fail("a call has a misplaced '*' argument");
        }
        arguments->list = expression();
      } else if (Now().type == TokenType::kName && Next().IsOperator("=")) {
        if (arguments->dict != nullptr) Fail("an argument follows '**'");
        std::string name = Take().text;
        Take();
        arguments->named.emplace_back(std::move(name), expression());
      } else {
        if (arguments->list || arguments->dict || !arguments->named.empty()) {
          Fail("a positional argument follows a named one");
        }
        arguments->positional.push_back(expression());
      }
    }
    ExpectOperator(")");
    return arguments;
  }

  ExprPtr ParseFiltersAndTests(ExprPtr expr) {
    while (true) {
      if (Now().IsOperator("|")) {
        expr = ParseFilters(std::move(expr));
      } else if (Now().IsName("is")) {
        expr = ParseTest(std::move(expr));
      } else if (Now().IsOperator("(")) {
        expr = ParseCall(std::move(expr));
      } else {
        return expr;
      }
    }
  }

  ExprPtr ParseFilters(ExprPtr operand) {
    while (SkipOperator("|")) operand = ParseFilterTail(std::move(operand));
    return operand;
  }

  std::string ParseDottedName() {
    std::string name = ExpectName();
    while (SkipOperator(".")) name += "." + ExpectName();
    return name;
  }

  // A filter after its "|". A null operand stands for the text of a block.
  ExprPtr ParseFilterTail(ExprPtr operand) {
    ExprPtr expr = Make(ExprKind::kFilter, Now().line);
    expr->name = ParseDottedName();
    expr->filter = FindFilter(expr->name);
    if (expr->filter == nullptr) {
      unknown_.push_back({expr->line, fmt::format("no filter named '{}'", expr->name)});
    }
    if (Now().IsOperator("(")) expr->arguments = ParseArguments(*expr);
    Adopt(*expr, std::move(operand));
    return expr;
  }

  bool StartsTestArgument() const {
    const Token& now = Now();
    switch (now.type) {
      case TokenType::kString:
      case TokenType::kInteger:
      case TokenType::kFloat: return true;
      case TokenType::kName: return !now.IsName("else") && !now.IsName("or") && !now.IsName("and");
      default: return now.IsOperator("[") || now.IsOperator("{");
    }
  }

  ExprPtr ParseTest(ExprPtr operand) {
    const int line = Take().line;
    const bool negated = SkipName("not");
    ExprPtr test = Make(ExprKind::kTest, line);
    test->name = ParseDottedName();
    test->predicate = FindPredicate(test->name);
    if (test->predicate == nullptr) {
      unknown_.push_back({test->line, fmt::format("no test named '{}'", test->name)});
    }
    if (Now().IsOperator("(")) {
      test->arguments = ParseArguments(*test);
    } else if (StartsTestArgument()) {
      if (Now().IsName("is")) Fail("tests cannot be chained with 'is'");
      DepthGuard guard(&depth_);
      test->arguments = std::make_unique<Arguments>();
      test->arguments->positional.push_back(ParsePostfix(ParsePrimary()));
      test->depth = std::max(test->depth, test->arguments->positional[0]->depth + 1);
    }
    Adopt(*test, std::move(operand));
    if (!negated) return test;
    ExprPtr expr = Make(ExprKind::kNot, line);
    Adopt(*expr, std::move(test));
    return expr;
  }

  const std::vector<Token> tokens_;
  int* const line_;
  std::unique_ptr<Syntax> syntax_;
  size_t at_ = 0;
  int depth_ = 0;
  int loops_ = 0;  // around the current statement, that `break` and `continue` reach
  std::vector<Unknown> unknown_;
  std::vector<MacroDef*> macros_;
  std::map<std::string, int> symbols_;
};

}  // namespace

std::unique_ptr<const Syntax> ParseTemplate(std::string_view source, int* line) {
  std::vector<Token> tokens = Tokenize(source, line);
  *line = 1;
  return Parser(std::move(tokens), line).Run();
}

}  // namespace trireme::jinja
