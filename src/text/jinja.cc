// SPDX-License-Identifier: Apache-2.0
// Parsing and rendering with their errors turned into Status. Thread-safe.
#include "text/jinja.h"

#include <new>

#include "base/status.h"
#include "text/jinja_eval.h"
#include "text/jinja_filters.h"
#include "text/jinja_parser.h"
#include "text/jinja_unicode.h"

namespace trireme::jinja {
namespace {

Status AtLine(const Error& error, int line) {
  return Status(error.code, fmt::format("chat template line {}: {}", line, error.message));
}

Value ParseVariables(Runtime& rt, std::string_view json, std::string_view what) {
  Value value = ParseJson(rt, json, what);
  if (!value.is_dict()) Fail("{} must be a JSON object", what);
  return value;
}

}  // namespace

Template::Template(std::unique_ptr<const Syntax> syntax) : syntax_(std::move(syntax)) {}
Template::~Template() = default;

StatusOr<std::unique_ptr<Template>> Template::Parse(std::string_view source) {
  if (source.size() > kMaxTemplateBytes) {
    return ResourceExhausted("the chat template has {} bytes, more than the limit of {}",
                             source.size(), kMaxTemplateBytes);
  }
  if (const size_t at = FindInvalidUtf8(source); at != std::string_view::npos) {
    return InvalidArgument("the chat template is not UTF-8 at byte {}", at);
  }
  int line = 1;
  try {
    return std::unique_ptr<Template>(new Template(ParseTemplate(source, &line)));
  } catch (const Error& error) {
    return AtLine(error, line);
  } catch (const std::bad_alloc&) {
    return ResourceExhausted("no memory left while parsing the chat template");
  }
}

StatusOr<std::string> Template::Render(const RenderInput& input) const {
  Runtime rt(input.now);
  bool running = false;
  try {
    const Value variables = ParseVariables(rt, input.variables_json, "the template's variables");
    Value defaults;
    if (!input.defaults_json.empty()) {
      defaults = ParseVariables(rt, input.defaults_json, "the template's default variables");
    }
    running = true;
    Evaluator evaluator(*syntax_, rt, variables.dict(),
                        defaults.is_dict() ? &defaults.dict() : nullptr);
    return evaluator.Run();
  } catch (const Error& error) {
    return running ? AtLine(error, rt.line()) : Status(error.code, error.message);
  } catch (const std::bad_alloc&) {
    return ResourceExhausted("no memory left while rendering the chat template");
  }
}

}  // namespace trireme::jinja
