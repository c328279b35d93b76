// SPDX-License-Identifier: Apache-2.0
// Python's operators over values. Pure but for the budget they draw on; one thread per render.
#pragma once

#include "text/jinja_ast.h"
#include "text/jinja_runtime.h"
#include "text/jinja_value.h"

namespace trireme::jinja {

Value Negative(const Value& value);
Value Positive(const Value& value);
Value Binary(Runtime& rt, Op op, const Value& a, const Value& b);
bool Compare(Runtime& rt, Op op, const Value& a, const Value& b);

}  // namespace trireme::jinja
