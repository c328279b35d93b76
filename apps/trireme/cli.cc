// SPDX-License-Identifier: Apache-2.0
#include "cli.h"

#include <unistd.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <limits>
#include <numeric>

#include "base/staged_folder.h"
#include "base/status.h"

namespace trireme::cli {
namespace {

// "--max-batch-size=4" -> "--max_batch_size=4"; values and one-letter flags stay. A long flag with
// one dash, as the reference tools have some, gets its second.
std::string NormaliseFlag(const std::string& argument) {
  if (argument.size() > 2 && argument[0] == '-' && std::isalpha(argument[1]) &&
      std::isalpha(argument[2])) {
    return NormaliseFlag("-" + argument);
  }
  if (!argument.starts_with("--") || argument.size() == 2) return argument;
  std::string normal = argument;
  const size_t end = std::min(normal.find('='), normal.size());
  std::replace(normal.begin() + 2, normal.begin() + static_cast<std::ptrdiff_t>(end), '-', '_');
  return normal;
}

// Dashes that word processors put where two hyphens were typed: hyphen, non-breaking hyphen, figure
// dash, en dash, em dash, horizontal bar, minus sign.
bool StartsWithTypographicDash(const std::string& argument) {
  for (std::string_view dash :
       {"\u2010", "\u2011", "\u2012", "\u2013", "\u2014", "\u2015", "\u2212"}) {
    if (argument.starts_with(dash) || argument.starts_with("-" + std::string(dash))) return true;
  }
  return false;
}

// "", " of at least 1", " from 0 to 1".
std::string BoundsText(Bounds bounds) {
  const Bounds none;
  const bool has_min = bounds.min > none.min;
  const bool has_max = bounds.max < none.max;
  if (has_min && has_max) return fmt::format(" from {} to {}", bounds.min, bounds.max);
  if (has_min) return fmt::format(" of at least {}", bounds.min);
  return has_max ? fmt::format(" of at most {}", bounds.max) : "";
}

// Checks the text of a number and writes it as CLI11's own conversion reads it right: that takes an
// empty text as 0, wraps a negative number into an unsigned one and reads a leading 0 as octal.
// Returns what is wrong.
template <typename T>
std::string CheckNumber(std::string& text, Bounds bounds) {
  const std::string_view digits = std::string_view(text).substr(text.starts_with("+") ? 1 : 0);
  T value{};
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  const bool is_number = error == std::errc() && end == digits.data() + digits.size();
  if (std::is_unsigned_v<T>) bounds.min = std::max(bounds.min, 0.0);
  if constexpr (std::is_same_v<T, int>) {
    bounds.max = std::min<double>(bounds.max, std::numeric_limits<int>::max());
    if (bounds.min <= std::numeric_limits<int>::min()) bounds.min = std::numeric_limits<int>::min();
  }
  const double number = static_cast<double>(value);
  if (is_number && number >= bounds.min && number <= bounds.max) {
    text = fmt::format("{}", value);
    return "";
  }
  constexpr const char* kKind = std::is_integral_v<T> ? "whole number" : "finite number";
  return fmt::format("'{}' is not a {}{}", text, kKind, BoundsText(bounds));
}

template <typename T>
CLI::Validator NumberValidator(Bounds bounds) {
  return CLI::Validator([bounds](std::string& text) { return CheckNumber<T>(text, bounds); }, "");
}

}  // namespace

int EditDistance(std::string_view a, std::string_view b) {
  std::vector<int> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (size_t i = 1; i <= a.size(); ++i) {
    int diagonal = row[0];
    row[0] = static_cast<int>(i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const int substitute = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({substitute, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

StatusOr<bool> ParseBool(const std::string& text, std::string_view flag) {
  for (const char* yes : {"true", "on", "1"}) {
    if (text == yes) return true;
  }
  for (const char* no : {"false", "off", "0"}) {
    if (text == no) return false;
  }
  return InvalidArgument("--{} takes true or false, not '{}'", flag, text);
}

struct CommandLine::Impl {
  struct Refused {
    CLI::Option* option;  // owned by app
    std::string why;
    std::vector<std::string> harmless;
    std::shared_ptr<std::vector<std::string>> values;
  };

  Impl(std::string_view summary, std::string_view command)
      : app(std::string(summary), "trireme " + std::string(command)), name(command) {}

  void Known(const std::string& flag) {
    for (size_t at = flag.find("--"); at < flag.size(); at = flag.find("--", at + 2)) {
      known_flags.push_back(flag.substr(at, flag.find(',', at) - at));
    }
  }

  template <typename T>
  CLI::Option* AddValue(const std::string& flag, T& value, const std::string& help) {
    Known(flag);
    return app.add_option(flag, value, help)->capture_default_str();
  }
  template <typename T>
  void AddNumber(const std::string& flag, T& value, const std::string& help, Bounds bounds) {
    AddValue(flag, value, help)->transform(NumberValidator<T>(bounds));
  }

  std::string NearestFlag(const std::string& flag) const;
  std::optional<int> CheckRefused() const;
  void PrintExtras(const std::string& first) const;

  CLI::App app;
  const std::string name;
  std::vector<std::string> known_flags = {"--help"};
  std::vector<Refused> refused;
};

CommandLine::CommandLine(std::string_view name, std::string_view summary,
                         std::vector<std::string> examples)
    : impl_(std::make_unique<Impl>(summary, name)) {
  CLI::App& app = impl_->app;
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  app.allow_extras(false);
  app.get_formatter()->column_width(40);
  std::string footer = "\nExamples:";
  for (const std::string& example : examples) footer += "\n  " + example;
  app.footer(footer);
}

CommandLine::~CommandLine() = default;
CommandLine::CommandLine(CommandLine&&) noexcept = default;

void CommandLine::Add(const std::string& name, std::string& value, const std::string& help) {
  impl_->AddValue(name, value, help);
}
void CommandLine::Add(const std::string& name, int& value, const std::string& help, Bounds bounds) {
  impl_->AddNumber(name, value, help, bounds);
}
void CommandLine::Add(const std::string& name, int64_t& value, const std::string& help,
                      Bounds bounds) {
  impl_->AddNumber(name, value, help, bounds);
}
void CommandLine::Add(const std::string& name, uint64_t& value, const std::string& help,
                      Bounds bounds) {
  impl_->AddNumber(name, value, help, bounds);
}
void CommandLine::Add(const std::string& name, float& value, const std::string& help,
                      Bounds bounds) {
  impl_->AddNumber(name, value, help, bounds);
}
void CommandLine::Add(const std::string& name, double& value, const std::string& help,
                      Bounds bounds) {
  impl_->AddNumber(name, value, help, bounds);
}

void CommandLine::AddList(const std::string& name, std::vector<std::string>& values,
                          const std::string& help) {
  impl_->Known(name);
  impl_->app.add_option(name, values, help)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

void CommandLine::AddList(const std::string& name, std::vector<int>& values,
                          const std::string& help) {
  impl_->Known(name);
  impl_->app.add_option(name, values, help)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->transform(NumberValidator<int>({}));
}

void CommandLine::AddSwitch(const std::string& name, bool& value, const std::string& help) {
  impl_->Known(name);
  impl_->app.add_flag(name, value, help);
}

void CommandLine::AddPositional(const std::string& name, std::string& value,
                                const std::string& help) {
  impl_->app.add_option(name, value, help);
}

void CommandLine::Require(const std::string& name) { impl_->app.get_option(name)->required(); }

void CommandLine::AddNoEffect(const std::string& name, const std::string& why) {
  impl_->Known(name);
  impl_->app
      .add_option_function<std::vector<std::string>>(
          name, [](const std::vector<std::string>&) {}, "no effect: " + why)
      ->expected(0, 1)
      ->group("Accepted without effect");
}

void CommandLine::AddRefused(const std::string& name, const std::string& why,
                             std::vector<std::string> harmless) {
  impl_->Known(name);
  auto values = std::make_shared<std::vector<std::string>>();
  CLI::Option* option = impl_->app.add_option_function<std::vector<std::string>>(
      name,
      [values](const std::vector<std::string>& given) {
        *values = given;
        if (values->empty()) values->push_back("");
      },
      "refused: " + why);
  option->expected(0, -1)->group("Not available yet");
  impl_->refused.push_back({option, why, std::move(harmless), values});
}

bool CommandLine::Given(const std::string& name) const { return impl_->app.count(name) > 0; }
bool CommandLine::Knows(const std::string& name) const {
  return impl_->app.get_option_no_throw(name) != nullptr;
}
bool CommandLine::IsSwitch(const std::string& name) const {
  const CLI::Option* option = impl_->app.get_option_no_throw(name);
  return option != nullptr && option->get_expected_max() == 0;
}

std::string CommandLine::Impl::NearestFlag(const std::string& flag) const {
  std::string nearest;
  int best = 1 << 20;
  for (const std::string& known : known_flags) {
    const int distance = EditDistance(flag, known);
    if (distance < best) {
      best = distance;
      nearest = known;
    }
  }
  return nearest;
}

std::optional<int> CommandLine::Impl::CheckRefused() const {
  for (const Refused& one : refused) {
    if (one.option->count() == 0) continue;
    const bool is_harmless =
        one.values->size() == 1 && std::find(one.harmless.begin(), one.harmless.end(),
                                             one.values->front()) != one.harmless.end();
    if (is_harmless) continue;
    fmt::print(stderr, "trireme {}: {} is refused: {}\n", name, one.option->get_name(), one.why);
    return kExitUsage;
  }
  return std::nullopt;
}

void CommandLine::Impl::PrintExtras(const std::string& first) const {
  if (first.starts_with("-")) {
    const std::string flag = first.substr(0, first.find('='));
    fmt::print(stderr, "trireme {}: unknown flag '{}'; did you mean {}?\n", name, flag,
               NearestFlag(flag));
  } else {
    fmt::print(stderr, "trireme {}: unexpected argument '{}'\n", name, first);
  }
}

std::optional<int> CommandLine::Parse(std::span<const std::string> arguments) {
  std::vector<std::string> normal;
  for (const std::string& argument : arguments) {
    if (StartsWithTypographicDash(argument)) {
      const size_t word =
          argument.find_first_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");
      fmt::print(stderr,
                 "trireme {}: '{}' starts with a typographic dash; type two hyphens: --{}\n",
                 impl_->name, argument, word == std::string::npos ? "flag" : argument.substr(word));
      return kExitUsage;
    }
    std::string flag = NormaliseFlag(argument);
    // CLI11 takes the next argument for the value of "--name=".
    const bool is_empty = flag.starts_with("--") && flag.ends_with("=") &&
                          flag.find('=') == flag.size() - 1 && flag.size() > 3;
    if (is_empty) flag.pop_back();
    normal.push_back(std::move(flag));
    if (is_empty) normal.emplace_back();
  }
  std::reverse(normal.begin(), normal.end());  // CLI11 takes its vector from the back
  try {
    impl_->app.parse(normal);
  } catch (const CLI::CallForHelp&) {
    fmt::print("{}", impl_->app.help());
    return kExitOk;
  } catch (const CLI::Error& error) {
    // Before all else: a required flag that is missing may be there under a wrong name.
    if (const std::vector<std::string> extras = impl_->app.remaining(); !extras.empty()) {
      impl_->PrintExtras(extras.front());
      return kExitUsage;
    }
    fmt::print(stderr, "trireme {}: {} (see `trireme {} --help`)\n", impl_->name, error.what(),
               impl_->name);
    return kExitUsage;
  }
  return impl_->CheckRefused();
}

int Fail(std::string_view command, const Status& status) {
  fmt::print(stderr, "trireme {}: {}\n", command, status.message());
  switch (status.code()) {
    case StatusCode::kInvalidArgument:
    case StatusCode::kNotFound:
    case StatusCode::kFailedPrecondition:
    case StatusCode::kUnimplemented: return kExitData;
    case StatusCode::kAlreadyExists:
    case StatusCode::kResourceExhausted:
    case StatusCode::kDeadlineExceeded:
    case StatusCode::kUnavailable: return kExitResources;
    default: return kExitInternal;
  }
}

int FailUsage(std::string_view command, const Status& status) {
  fmt::print(stderr, "trireme {}: {}\n", command, status.message());
  return kExitUsage;
}

Status CheckOutputPath(std::string_view flag, const std::string& path) {
  if (path.empty()) return OkStatus();
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) {
    return InvalidArgument("{} '{}' is a folder; name a file", flag, path);
  }
  std::filesystem::path folder = std::filesystem::path(path).parent_path();
  if (folder.empty()) folder = ".";
  if (!std::filesystem::is_directory(folder, error)) {
    return InvalidArgument("{} '{}': there is no folder '{}'", flag, path, folder.string());
  }
  if (::access(folder.c_str(), W_OK) == 0) return OkStatus();
  return ErrnoStatus(errno, fmt::format("{} '{}' cannot be written", flag, path));
}

Status CheckOutputFolder(std::string_view flag, const std::string& path) {
  return StagedFolder::Create(path).status().WithContext(std::string(flag));
}

}  // namespace trireme::cli
