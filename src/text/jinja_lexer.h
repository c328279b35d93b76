// SPDX-License-Identifier: Apache-2.0
// Template text to tokens, white space control included. Pure functions, thread-safe.
//
// The settings are those published chat templates are written for: trim_blocks and lstrip_blocks
// on, one trailing newline of the template dropped.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace trireme::jinja {

enum class TokenType : uint8_t {
  kData,  // text between tags
  kVariableBegin,
  kVariableEnd,
  kBlockBegin,
  kBlockEnd,
  kName,
  kString,
  kInteger,
  kFloat,
  kOperator,
  kEnd,
};

struct Token {
  TokenType type = TokenType::kEnd;
  int line = 1;
  std::string text;  // of a string: its value; of a number: its digits without '_'

  bool IsName(std::string_view name) const { return type == TokenType::kName && text == name; }
  bool IsOperator(std::string_view op) const { return type == TokenType::kOperator && text == op; }
};

// Throws Error; `*line` is where, whatever happens.
std::vector<Token> Tokenize(std::string_view source, int* line);

// For messages: "end of template", "name 'x'".
std::string Describe(const Token& token);

}  // namespace trireme::jinja
