// SPDX-License-Identifier: Apache-2.0
// libFuzzer target: any bytes as a template and, after a first NUL, as its variables.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "text/jinja.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t end = input.find('\0');
  const auto parsed = trireme::jinja::Template::Parse(input.substr(0, end));
  if (!parsed.ok()) return 0;
  constexpr std::string_view kVariables =
      R"({"messages": [{"role": "user", "content": " hi "}, {"role": "assistant", "content": "yo"}],
          "tools": [{"function": {"name": "f", "parameters": {"x": {"type": "integer"}}}}],
          "n": 7, "f": 2.5, "s": "Hello, World", "list": [3, 1, 2], "d": {"b": 2, "a": 1},
          "add_generation_prompt": true, "bos_token": "<s>"})";
  const std::string_view variables = end == input.npos ? kVariables : input.substr(end + 1);
  const auto text = (*parsed)->Render({.variables_json = variables, .now = "2025-01-05T12:30:45"});
  return 0;
}
