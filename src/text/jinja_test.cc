// SPDX-License-Identifier: Apache-2.0
// The template engine against Jinja2's own renderings, and its limits against hostile templates.
#include "text/jinja.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "base/mapped_file.h"
#include "tests/source_path.h"
#include "text/jinja_unicode.h"

namespace trireme::jinja {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::ordered_json;

StatusOr<std::string> Render(std::string_view source, const RenderInput& input) {
  auto parsed = Template::Parse(source);
  if (!parsed.ok()) return parsed.status();
  return (*parsed)->Render(input);
}

StatusOr<std::string> Render(std::string_view source, std::string_view variables = "{}") {
  return Render(source, RenderInput{.variables_json = variables});
}

// The first `"variables": {...}` of the cases file as text: parsed and dumped, a wide integer of it
// would have turned into a double.
std::string VariablesText(const std::string& file) {
  const std::string begin = "\"variables\": ";
  const size_t at = file.find(begin) + begin.size();
  return file.substr(at, file.find(", \"cases\": [", at) - at);
}

TEST(JinjaTest, AgreesWithJinja2) {
  const auto file = ReadFile(SourcePath("tests/data/jinja_cases.json"));
  ASSERT_TRUE(file.ok()) << file.status().ToString();
  const Json document = Json::parse(*file, nullptr, false);
  ASSERT_TRUE(document.is_object());
  const std::string variables = VariablesText(*file);
  const RenderInput input{.variables_json = variables, .now = document["now"].get<std::string>()};
  ASSERT_GT(document["cases"].size(), 700u);
  for (const Json& one : document["cases"]) {
    const std::string source = one["template"];
    SCOPED_TRACE(source);
    const auto text = Render(source, input);
    if (one.contains("error")) {
      EXPECT_FALSE(text.ok()) << "rendered: " << *text;
    } else if (text.ok()) {
      EXPECT_EQ(*text, one["expected"].get<std::string>());
    } else {
      ADD_FAILURE() << text.status().ToString();
    }
  }
}

TEST(JinjaTest, ErrorsNameTheLine) {
  EXPECT_THAT(Render("a\nb\n{{ x.y }}").status().message(), HasSubstr("line 3: 'x' is undefined"));
  EXPECT_THAT(Render("a\n{% if x %}\n").status().message(), HasSubstr("'endif' is missing"));
  EXPECT_THAT(Render("\n\n{% nope %}").status().message(), HasSubstr("line 3: unknown tag 'nope'"));
  EXPECT_THAT(Render("\n{{ raise_exception('roles must alternate') }}").status().message(),
              HasSubstr("line 2: roles must alternate"));
}

TEST(JinjaTest, RefusesOtherFiles) {
  for (const char* source : {"{% include 'a' %}", "{% import 'a' as b %}", "{% extends 'a' %}",
                             "{% from 'a' import b %}"}) {
    EXPECT_EQ(Render(source).status().code(), StatusCode::kUnimplemented) << source;
  }
}

TEST(JinjaTest, RefusesBadInput) {
  EXPECT_EQ(Render("\xff").status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(Render("{{ '\\ud800' }}").status().code(), StatusCode::kInvalidArgument);
  for (const char* variables : {"", "[]", "{", "{\"a\": }", "{\"a\": \"\xff\"}", "null"}) {
    EXPECT_EQ(Render("x", variables).status().code(), StatusCode::kInvalidArgument) << variables;
  }
}

TEST(JinjaTest, VariablesComeBeforeDefaultsAndGlobals) {
  const RenderInput input{.variables_json = R"({"bos_token": "<a>", "range": 5})",
                          .defaults_json = R"({"bos_token": "<b>", "eos_token": "</s>"})"};
  const auto text = Render("{{ bos_token }}{{ eos_token }}{{ range }}", input);
  ASSERT_TRUE(text.ok());
  EXPECT_EQ(*text, "<a></s>5");
}

TEST(JinjaTest, KeepsObjectOrderAndWideIntegers) {
  const auto text = Render("{{ x | tojson }}", R"({"x": {"b": 18446744073709551615, "a": -1, "b2":
      123456789012345678901234567890, "f": 1.0, "e": 1e5, "b": 18446744073709551615}})");
  ASSERT_TRUE(text.ok());
  EXPECT_EQ(*text, R"({"b": 18446744073709551615, "a": -1, "b2": 123456789012345678901234567890, )"
                   R"("f": 1.0, "e": 100000.0})");
}

// Each of these would take for ever, fill the memory or the stack.
TEST(JinjaTest, LimitsHoldHostileTemplates) {
  const std::string deep_expression =
      "{{ " + std::string(5000, '(') + "1" + std::string(5000, ')') + " }}";
  std::string deep_tags;
  for (int i = 0; i < 500; ++i) deep_tags += "{% if x %}";
  std::string deep_macro = "{% macro m() %}";
  for (int i = 0; i < 90; ++i) deep_macro += "{% if true %}";
  deep_macro += "{{ m() }}";
  for (int i = 0; i < 90; ++i) deep_macro += "{% endif %}";
  deep_macro += "{% endmacro %}{{ m() }}";
  std::string long_sum = "{{ 1";
  for (int i = 0; i < 20000; ++i) long_sum += "+1";
  long_sum += " }}";
  const std::string hostile[] = {
      "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
      "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
      "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
      "{% macro m(x) %}{% for a in [1] %}{% if x %}{% set y %}{{ m([[x]]) }}{% endset %}{% endif %}"
      "{% endfor %}{% endmacro %}{{ m([1]) }}",
      "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
      "{{ 'a' * 999999999999 }}",
      "{{ [0] * 999999999999 }}",
      "{{ 'x' | center(999999999999) }}",
      "{{ '%999999999d' % 1 }}",
      "{{ '{:999999999}'.format(1) }}",
      "{% set ns = namespace(s='a') %}{% for i in range(99999) %}{% set ns.s = ns.s + ns.s %}{% "
      "endfor %}",
      "{% set ns = namespace(l=[1]) %}{% for i in range(99999) %}{% set ns.l = ns.l + ns.l %}{% "
      "endfor %}",
      "{% set ns = namespace(l=[]) %}{% for i in range(99999) %}{% set ns.l = [ns.l] %}{% endfor "
      "%}",
      "{% set ns = namespace(l=[]) %}{% for i in range(150) %}{% set ns.l = [ns.l, ns.l] %}{% "
      "endfor %}"
      "{{ ns.l }}",
      "{% set ns = namespace(l=[]) %}{% for i in range(150) %}{% set ns.l = [ns.l, ns.l] %}{% "
      "endfor %}"
      "{{ ns.l | tojson }}",
      "{% set ns = namespace(l=[], m=[]) %}{% for i in range(150) %}{% set ns.l = [ns.l, ns.l] %}"
      "{% set ns.m = [ns.m, ns.m] %}{% endfor %}{{ ns.l == ns.m }}",
      "{% set ns = namespace(c=1) %}{% for i in range(99999) %}{% set ns.c = cycler(ns.c) %}{% "
      "endfor %}",
      "{% set ns = namespace(c=1) %}{% for i in range(99999) %}{% set ns.c = joiner(ns.c) %}{% "
      "endfor %}",
      "{% set ns = namespace(l=1) %}{% for i in range(99999) %}{% for j in [ns.l] %}{% set ns.l = "
      "loop %}"
      "{% endfor %}{% endfor %}",
      "{{ range(0, 9223372036854775807) | list }}",
      "{% set x = 'a' * 9999999 %}{% for i in range(99999) %}{{ x.count('b') }}{% endfor %}",
      "{% set x = 'a' * 9999999 %}{% for i in range(99999) %}{{ 'b' in x }}{% endfor %}",
      "{% set x = 'a' * 9999999 %}{% for i in range(99999) %}{{ x[5000000] }}{% endfor %}",
      "{% for i in range(99999) %}{% set _ = range(99999) | sort %}{% endfor %}",
      "{{ 'a' | indent(99999999999) }}",
      "{{ {'a': [1, 2]} | tojson(indent=60000000) }}",
      "{{ 'aaaaaaaaaaaaaaaaaaaa' | replace('', 'b' * 9999999) }}",
      "{{ (['a'] * 99999) | join('b' * 9999999) }}",
      deep_expression,
      deep_tags,
      deep_macro,
      long_sum,
      std::string(5u << 20, 'a'),
  };
  for (const std::string& source : hostile) {
    const auto text = Render(source);
    ASSERT_FALSE(text.ok()) << source.substr(0, 200);
    EXPECT_EQ(text.status().code(), StatusCode::kResourceExhausted) << source.substr(0, 200) << "\n"
                                                                    << text.status().ToString();
  }
}

TEST(JinjaTest, DeepJsonIsRefused) {
  const std::string deep = "{\"a\": " + std::string(100000, '[') + std::string(100000, ']') + "}";
  EXPECT_EQ(Render("x", deep).status().code(), StatusCode::kResourceExhausted);
}

// Reference cycles through namespaces, macros and loops: a leak checker sees what survives.
TEST(JinjaTest, CyclesAreReleased) {
  const auto text = Render(
      "{% set ns = namespace() %}{% set ns.me = ns %}{% set ns.list = [ns, {'n': ns}] %}"
      "{% macro m() %}{{ caller() }}{% endmacro %}{% set ns.m = m %}"
      "{% for x in [ns] %}{% set ns.loop = loop %}{% set _ = loop.changed(loop, ns) %}"
      "{% call m() %}{{ x is defined }}{% endcall %}{% endfor %}");
  ASSERT_TRUE(text.ok()) << text.status().ToString();
  EXPECT_EQ(*text, "True");
}

TEST(JinjaTest, OneTemplateRendersOnManyThreads) {
  auto parsed = Template::Parse(
      "{% for m in messages %}{{ 'role: ' ~ m.role | upper }}{{ m['content'].strip() }};{% endfor "
      "%}");
  ASSERT_TRUE(parsed.ok());
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&parsed, t] {
      const std::string content = "c" + std::to_string(t);
      const std::string variables =
          R"({"messages": [{"role": "user", "content": " )" + content + R"( "}]})";
      for (int i = 0; i < 500; ++i) {
        const auto text = (*parsed)->Render({.variables_json = variables});
        ASSERT_TRUE(text.ok());
        ASSERT_EQ(*text, "role: USER" + content + ";");
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// Random bytes and random pieces of templates end in a text or a Status.
TEST(JinjaTest, SurvivesRandomTemplates) {
  static constexpr const char* kPieces[] = {
      "{%",    "%}",        "{{",   "}}",      "{#",         "#}",       "-",
      "+",     " for ",     " in ", " if ",    " endif ",    " endfor ", " set ",
      "=",     "x",         "[",    "]",       "(",          ")",        "{",
      "}",     ":",         ",",    ".",       "|",          "~",        "'a'",
      "\"",    "1",         "2.5",  " macro ", " endmacro ", " call ",   " endcall ",
      "upper", "join",      "map",  " is ",    "defined",    " not ",    "loop",
      "range", "namespace", "\n",   " raw ",   " endraw ",   "*",        "**",
      "//",    "%",         "<",    "==",      "messages"};
  std::mt19937 random(20240607);
  for (int round = 0; round < 20000; ++round) {
    std::string source;
    const size_t size = 1 + random() % 30;
    for (size_t i = 0; i < size; ++i) source += kPieces[random() % std::size(kPieces)];
    const auto text = Render(source, R"({"x": [1, "a"], "messages": {"a": 1}})");
    if (!text.ok()) {
      ASSERT_NE(text.status().code(), StatusCode::kInternal) << source;
    }
  }
}

TEST(JinjaUnicodeTest, FindsInvalidUtf8) {
  EXPECT_EQ(FindInvalidUtf8("aé世😀"), std::string_view::npos);
  EXPECT_EQ(FindInvalidUtf8("a\x80"), 1u);
  EXPECT_EQ(FindInvalidUtf8("\xC0\xAF"), 0u);          // overlong
  EXPECT_EQ(FindInvalidUtf8("\xED\xA0\x80"), 0u);      // surrogate
  EXPECT_EQ(FindInvalidUtf8("\xF4\x90\x80\x80"), 0u);  // beyond U+10FFFF
  EXPECT_EQ(FindInvalidUtf8("\xE4\xB8"), 0u);          // cut short
}

}  // namespace
}  // namespace trireme::jinja
