// SPDX-License-Identifier: Apache-2.0
// The template engine's door: parse once, render on any thread. Immutable, thread-safe.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "trireme/status.h"

namespace trireme::jinja {

struct Syntax;

struct RenderInput {
  std::string_view variables_json;      // an object
  std::string_view defaults_json = {};  // an object or empty: variables not in the first
  std::string now = {};                 // local time for strftime_now; empty for the clock
};

class Template {
 public:
  static StatusOr<std::unique_ptr<Template>> Parse(std::string_view source);
  ~Template();

  StatusOr<std::string> Render(const RenderInput& input) const;

 private:
  explicit Template(std::unique_ptr<const Syntax> syntax);

  const std::unique_ptr<const Syntax> syntax_;
};

}  // namespace trireme::jinja
