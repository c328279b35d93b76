// SPDX-License-Identifier: Apache-2.0
// Filters that make numbers, and Python's int() and float() of text. Constant table.
#include <charconv>
#include <cmath>

#include "text/jinja_filters.h"
#include "text/jinja_unicode.h"

namespace trireme::jinja {
namespace {

// `text` without outer space and the '_' between digits; nullopt for a misplaced '_'.
std::optional<std::string> CleanNumber(std::string_view text) {
  text = StripSpace(text);
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') {
      out.push_back(text[i]);
      continue;
    }
    const auto is_digit = [&](size_t k) {
      return k < text.size() && std::isxdigit(static_cast<unsigned char>(text[k]));
    };
    if (i == 0 || !is_digit(i - 1) || !is_digit(i + 1)) return std::nullopt;
  }
  return out;
}

// Python's int(text, base); nullopt when the text is no such number.
std::optional<Value> ParseInt(Runtime& rt, std::string_view text, int64_t base) {
  const std::optional<std::string> clean = CleanNumber(text);
  if (!clean) return std::nullopt;
  std::string_view digits = *clean;
  const bool negative = digits.starts_with('-');
  if (negative || digits.starts_with('+')) digits.remove_prefix(1);
  if (digits.size() > 2 && digits[0] == '0') {
    const char mark = static_cast<char>(digits[1] | 0x20);
    const int64_t marked = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 0;
    if (marked != 0 && (base == marked || base == 0)) {
      digits.remove_prefix(2);
      base = marked;
    }
  }
  if (base == 0) base = 10;
  if (base < 2 || base > 36 || digits.empty() || digits[0] == '-') return std::nullopt;
  int64_t value = 0;
  const char* end = digits.data() + digits.size();
  const auto result = std::from_chars(digits.data(), end, value, static_cast<int>(base));
  if (result.ptr != end) return std::nullopt;
  if (result.ec == std::errc()) return Value(negative ? -value : value);
  if (result.ec != std::errc::result_out_of_range) return std::nullopt;
  if (base != 10) Fail("an integer grows beyond 64 bits");
  digits.remove_prefix(std::min(digits.find_first_not_of('0'), digits.size()));
  return rt.BigInt((negative ? "-" : "") + std::string(digits));
}

// Python's int(number); nullopt for what is none.
std::optional<Value> Truncated(Runtime& rt, double value) {
  if (std::isnan(value) || std::isinf(value)) return std::nullopt;
  if (std::fabs(value) >= 9.2e18) return rt.BigInt(fmt::format("{:.0f}", value));
  return Value(static_cast<int64_t>(value));
}

Value FilterInt(Runtime& rt, const Value& value, const Args& args) {
  const BoundArgs bound("int", args, {"default", "base"});
  return ToInt(rt, value, bound.Int(1, 10), bound.Or(0, 0));
}

Value FilterFloat(Runtime& rt, const Value& value, const Args& args) {
  const BoundArgs bound("float", args, {"default"});
  if (value.is_undefined()) Fail(value.undefined().Message());
  if (value.is_number()) return value.float_value();
  if (value.is_string()) {
    if (const std::optional<double> number = ParseFloat(value.text())) return *number;
  }
  return bound.Or(0, 0.0);
}

Value FilterAbs(Runtime& rt, const Value& value, const Args& args) {
  if (value.is_undefined()) Fail(value.undefined().Message());
  if (value.is_float()) return std::fabs(value.float_value());
  if (!value.is_integral()) Fail("bad operand type for abs(): '{}'", TypeName(value));
  if (value.int_value() == INT64_MIN) Fail("an integer grows beyond 64 bits");
  return std::abs(value.int_value());
}

// Python's round(value, digits): correct to the last decimal, ties to even.
double RoundDecimals(double value, int64_t digits) {
  if (!std::isfinite(value) || digits > 320) return value;
  if (digits < -310) return 0.0;
  if (digits >= 0) {
    const std::string text = fmt::format("{:.{}f}", value, digits);
    return std::strtod(text.c_str(), nullptr);
  }
  const double scale = std::pow(10.0, static_cast<double>(-digits));
  return std::nearbyint(value / scale) * scale;
}

Value RoundInt(int64_t value, int64_t digits) {
  if (digits >= 0) return value;
  if (digits < -18) return 0;
  int64_t scale = 1;
  for (int64_t i = 0; i < -digits; ++i) scale *= 10;
  int64_t quotient = value / scale;
  const int64_t rest = std::abs(value % scale);
  const int64_t half = scale / 2;
  if (rest > half || (rest == half && quotient % 2 != 0)) quotient += value < 0 ? -1 : 1;
  int64_t result;
  if (__builtin_mul_overflow(quotient, scale, &result)) Fail("an integer grows beyond 64 bits");
  return result;
}

Value FilterRound(Runtime& rt, const Value& value, const Args& args) {
  const BoundArgs bound("round", args, {"precision", "method"});
  const int64_t digits = bound.Int(0, 0);
  const std::string method = bound.Text(rt, 1, "common");
  const double number = RequireNumber(value);
  if (method == "common") {
    if (value.is_integral()) return RoundInt(value.int_value(), digits);
    return RoundDecimals(number, digits);
  }
  if (method != "ceil" && method != "floor") Fail("method must be common, ceil or floor");
  const double scale = std::pow(10.0, static_cast<double>(digits));
  const double scaled = number * scale;
  return (method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale;
}

Value FilterFileSize(Runtime& rt, const Value& value, const Args& args) {
  const BoundArgs bound("filesizeformat", args, {"binary"});
  const bool binary = bound.Bool(rt, 0, false);
  const std::optional<double> parsed =
      value.is_string() ? ParseFloat(value.text()) : std::optional<double>(RequireNumber(value));
  if (!parsed) Fail("could not convert string to float: '{}'", value.text());
  const double bytes = *parsed;
  const double base = binary ? 1024 : 1000;
  static constexpr std::string_view kDecimal[] = {"kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"};
  static constexpr std::string_view kBinary[] = {"KiB", "MiB", "GiB", "TiB",
                                                 "PiB", "EiB", "ZiB", "YiB"};
  if (bytes == 1) return rt.String("1 Byte");
  if (bytes < base)
    return rt.String(fmt::format("{} Bytes", Str(rt, Truncated(rt, bytes).value_or(0))));
  size_t i = 0;
  double unit = base * base;
  while (i + 1 < std::size(kDecimal) && bytes >= unit) {
    unit *= base;
    ++i;
  }
  return rt.String(
      fmt::format("{:.1f} {}", base * bytes / unit, binary ? kBinary[i] : kDecimal[i]));
}

constexpr Filter kFilters[] = {
    {"abs", FilterAbs},     {"filesizeformat", FilterFileSize},
    {"float", FilterFloat}, {"int", FilterInt},
    {"round", FilterRound},
};

}  // namespace

std::optional<double> ParseFloat(std::string_view text) {
  const std::optional<std::string> clean = CleanNumber(text);
  if (!clean || clean->empty()) return std::nullopt;
  std::string_view digits = *clean;
  const bool negative = digits.starts_with('-');
  if (negative || digits.starts_with('+')) digits.remove_prefix(1);
  const std::string lowered = ToLower(digits);
  if (lowered == "inf" || lowered == "infinity") return negative ? -INFINITY : INFINITY;
  if (lowered == "nan") return NAN;
  if (digits.empty() || !(digits[0] == '.' || (digits[0] >= '0' && digits[0] <= '9'))) {
    return std::nullopt;
  }
  double value = 0;
  const auto result = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (result.ptr != digits.data() + digits.size()) return std::nullopt;
  if (result.ec == std::errc::result_out_of_range) {
    value = std::strtod(std::string(digits).c_str(), nullptr);
  } else if (result.ec != std::errc()) {
    return std::nullopt;
  }
  return negative ? -value : value;
}

Value ToInt(Runtime& rt, const Value& value, int64_t base, const Value& fallback) {
  if (value.is_undefined()) Fail(value.undefined().Message());
  if (value.is_integral()) return value.int_value();
  if (value.type() == Type::kBigInt) return value;
  if (value.is_float()) {
    if (std::isinf(value.float_value())) Fail("cannot convert float infinity to integer");
    return Truncated(rt, value.float_value()).value_or(fallback);
  }
  if (!value.is_string()) return fallback;
  rt.StepBytes(value.text().size());
  if (const std::optional<Value> number = ParseInt(rt, value.text(), base)) return *number;
  if (const std::optional<double> number = ParseFloat(value.text())) {
    return Truncated(rt, *number).value_or(fallback);
  }
  return fallback;
}

std::span<const Filter> NumberFilters() { return kFilters; }

}  // namespace trireme::jinja
