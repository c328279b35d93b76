// SPDX-License-Identifier: Apache-2.0
// Tokens to syntax. Pure functions, thread-safe.
#pragma once

#include <memory>
#include <string_view>

#include "text/jinja_ast.h"

namespace trireme::jinja {

// Throws Error; `*line` is where, whatever happens.
std::unique_ptr<const Syntax> ParseTemplate(std::string_view source, int* line);

}  // namespace trireme::jinja
