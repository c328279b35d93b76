// SPDX-License-Identifier: Apache-2.0
#include "text/regex.h"

#include <pcre2.h>

#include "text/utf8.h"

namespace trireme {
namespace {

// A published pattern needs a handful of steps per character.
constexpr uint32_t kMatchLimit = 20'000'000;
constexpr uint32_t kHeapLimitKib = 64 * 1024;
constexpr size_t kJitStackBytes = 1 << 20;

struct MatchDataDeleter {
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};
struct ContextDeleter {
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
};
struct JitStackDeleter {
  void operator()(pcre2_jit_stack* stack) const { pcre2_jit_stack_free(stack); }
};

std::string ErrorText(int code) {
  PCRE2_UCHAR buffer[256];
  pcre2_get_error_message(code, buffer, sizeof(buffer));
  return reinterpret_cast<const char*>(buffer);
}

}  // namespace

struct Regex::Code {
  pcre2_code* code = nullptr;
  ~Code() { pcre2_code_free(code); }
};

Regex::Regex() : code_(std::make_unique<Code>()) {}
Regex::~Regex() = default;

StatusOr<std::unique_ptr<Regex>> Regex::Compile(std::string_view pattern) {
  TRIREME_ASSIGN_OR_RETURN(const std::string translated, TranslateRegex(pattern));
  std::unique_ptr<Regex> regex(new Regex);
  regex->pattern_ = pattern;
  int error = 0;
  PCRE2_SIZE offset = 0;
  regex->code_->code = pcre2_compile(
      reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
      PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &error, &offset, nullptr);
  if (regex->code_->code == nullptr)
    return InvalidArgument("regular expression '{}' is not understood: {}", pattern,
                           ErrorText(error));
  // Without the just-in-time compiler (a locked-down host) matching is interpreted.
  pcre2_jit_compile(regex->code_->code, PCRE2_JIT_COMPLETE);
  return regex;
}

StatusOr<std::unique_ptr<Regex>> Regex::CompileLiteral(std::string_view text) {
  std::string pattern;
  for (const char c : text) {
    if (std::string_view("\\^$.[]|()?*+{}").find(c) != std::string_view::npos) pattern += '\\';
    pattern += c;
  }
  return Compile(pattern);
}

Status Regex::FindAll(std::string_view text, std::vector<Span>& matches) const {
  const std::unique_ptr<pcre2_match_data, MatchDataDeleter> data(
      pcre2_match_data_create_from_pattern(code_->code, nullptr));
  const std::unique_ptr<pcre2_match_context, ContextDeleter> context(
      pcre2_match_context_create(nullptr));
  if (data == nullptr || context == nullptr) return ResourceExhausted("no memory for a match");
  pcre2_set_match_limit(context.get(), kMatchLimit);
  pcre2_set_heap_limit(context.get(), kHeapLimitKib);
  std::unique_ptr<pcre2_jit_stack, JitStackDeleter> stack;
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  const PCRE2_SIZE* ovector = pcre2_get_ovector_pointer(data.get());
  uint32_t extra = 0;
  size_t start = 0;
  size_t last_end = SIZE_MAX;
  while (start <= text.size()) {
    int rc = pcre2_match(code_->code, subject, text.size(), start, PCRE2_NO_UTF_CHECK | extra,
                         data.get(), context.get());
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT && stack == nullptr) {
      stack.reset(pcre2_jit_stack_create(32 * 1024, kJitStackBytes, nullptr));
      pcre2_jit_stack_assign(context.get(), nullptr, stack.get());
      continue;
    }
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) {
      extra = PCRE2_NO_JIT;
      continue;
    }
    if (rc == PCRE2_ERROR_NOMATCH) break;
    if (rc < 0)
      return InvalidArgument("the tokenizer's pattern '{}' cannot be matched to this text: {}",
                             pattern_, ErrorText(rc));
    const size_t begin = ovector[0], end = ovector[1];
    // An empty match right behind the last match is not one.
    if (begin != end || end != last_end)
      matches.push_back({static_cast<uint32_t>(begin), static_cast<uint32_t>(end)});
    last_end = end;
    start = end;
    if (begin == end)
      start += start < text.size() ? utf8::Length(static_cast<uint8_t>(text[start])) : 1;
  }
  return OkStatus();
}

}  // namespace trireme
