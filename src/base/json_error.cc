// SPDX-License-Identifier: Apache-2.0
#include "base/json_error.h"

#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace trireme {
namespace {

using nlohmann::json;

// Takes everything and remembers the byte that could not be taken.
class ErrorFinder final : public json::json_sax_t {
 public:
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override { return true; }
  bool key(string_t&) override { return true; }
  bool end_object() override { return true; }
  bool start_array(std::size_t) override { return true; }
  bool end_array() override { return true; }
  bool parse_error(std::size_t position, const std::string&, const json::exception&) override {
    position_ = position;
    return false;
  }

  // Bytes read when the error showed, the wrong one included.
  std::size_t position() const { return position_; }

 private:
  std::size_t position_ = 0;
};

}  // namespace

std::string JsonErrorPlace(std::string_view text) {
  ErrorFinder finder;
  json::sax_parse(text.begin(), text.end(), &finder);
  const size_t at = finder.position() == 0 ? 0 : finder.position() - 1;
  if (at >= text.size()) return "its end, which comes too soon";
  const std::string_view before = text.substr(0, at);
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const size_t column = at - (before.rfind('\n') + 1) + 1;  // npos + 1 is 0
  const char wrong = text[at];
  const std::string shown =
      wrong >= 0x20 && wrong < 0x7f
          ? fmt::format("'{}'", wrong)
          : fmt::format("byte 0x{:02x}", static_cast<unsigned>(static_cast<unsigned char>(wrong)));
  return fmt::format("line {}, column {}, at {}", line, column, shown);
}

}  // namespace trireme
