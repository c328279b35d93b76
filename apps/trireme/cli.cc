// SPDX-License-Identifier: Apache-2.0
#include "cli.h"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <numeric>

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

CommandLine::CommandLine(std::string_view name, std::string_view summary,
                         std::vector<std::string> examples)
    : app_(std::string(summary), "trireme " + std::string(name)), name_(name) {
  app_.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  app_.allow_extras(false);
  app_.get_formatter()->column_width(40);
  std::string footer = "\nExamples:";
  for (const std::string& example : examples) footer += "\n  " + example;
  app_.footer(footer);
  known_flags_.push_back("--help");
}

void CommandLine::Known(const std::string& name) {
  const size_t at = name.find("--");
  if (at != std::string::npos) known_flags_.push_back(name.substr(at));
}

CLI::Option* CommandLine::AddSwitch(const std::string& name, bool& value, const std::string& help) {
  Known(name);
  return app_.add_flag(name, value, help);
}

CLI::Option* CommandLine::AddPositional(const std::string& name, std::string& value,
                                        const std::string& help) {
  return app_.add_option(name, value, help);
}

void CommandLine::AddNoEffect(const std::string& name, const std::string& why) {
  Known(name);
  auto ignored = std::make_shared<std::vector<std::string>>();
  app_.add_option_function<std::vector<std::string>>(
          name, [ignored](const std::vector<std::string>& values) { *ignored = values; },
          "no effect: " + why)
      ->expected(0, 1)
      ->group("Accepted without effect");
}

void CommandLine::AddRefused(const std::string& name, const std::string& why,
                             std::vector<std::string> harmless) {
  Known(name);
  auto values = std::make_shared<std::vector<std::string>>();
  CLI::Option* option = app_.add_option_function<std::vector<std::string>>(
      name,
      [values](const std::vector<std::string>& given) {
        *values = given;
        if (values->empty()) values->push_back("");
      },
      "refused: " + why);
  option->expected(0, -1)->group("Not available yet");
  refused_.push_back({option, why, std::move(harmless), values});
}

bool CommandLine::Given(const std::string& name) const { return app_.count(name) > 0; }

std::string CommandLine::NearestFlag(const std::string& flag) const {
  std::string nearest;
  int best = 1 << 20;
  for (const std::string& known : known_flags_) {
    const int distance = EditDistance(flag, known);
    if (distance < best) {
      best = distance;
      nearest = known;
    }
  }
  return nearest;
}

std::optional<int> CommandLine::CheckRefused() const {
  for (const Refused& refused : refused_) {
    if (refused.option->count() == 0) continue;
    const bool harmless =
        refused.values->size() == 1 && std::find(refused.harmless.begin(), refused.harmless.end(),
                                                 refused.values->front()) != refused.harmless.end();
    if (harmless) continue;
    fmt::print(stderr, "trireme {}: {} is refused: {}\n", name_, refused.option->get_name(),
               refused.why);
    return kExitUsage;
  }
  return std::nullopt;
}

std::optional<int> CommandLine::Parse(std::span<const std::string> arguments) {
  std::vector<std::string> normal;
  for (const std::string& argument : arguments) {
    if (StartsWithTypographicDash(argument)) {
      fmt::print(
          stderr, "trireme {}: '{}' starts with a typographic dash; type two hyphens: --{}\n",
          name_, argument,
          argument.substr(
              argument.find_first_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")));
      return kExitUsage;
    }
    normal.push_back(NormaliseFlag(argument));
  }
  std::reverse(normal.begin(), normal.end());  // CLI11 takes its vector from the back
  try {
    app_.parse(normal);
  } catch (const CLI::CallForHelp&) {
    fmt::print("{}", app_.help());
    return kExitOk;
  } catch (const CLI::ExtrasError& error) {
    const std::vector<std::string> extras = app_.remaining();
    const std::string first = extras.empty() ? error.what() : extras.front();
    if (first.starts_with("-")) {
      const std::string flag = first.substr(0, first.find('='));
      fmt::print(stderr, "trireme {}: unknown flag '{}'; did you mean {}?\n", name_, flag,
                 NearestFlag(flag));
    } else {
      fmt::print(stderr, "trireme {}: unexpected argument '{}'\n", name_, first);
    }
    return kExitUsage;
  } catch (const CLI::Error& error) {
    fmt::print(stderr, "trireme {}: {} (see `trireme {} --help`)\n", name_, error.what(), name_);
    return kExitUsage;
  }
  return CheckRefused();
}

int Fail(std::string_view command, const Status& status) {
  fmt::print(stderr, "trireme {}: {}\n", command, status.message());
  return status.code() == StatusCode::kInvalidArgument ||
                 status.code() == StatusCode::kUnimplemented
             ? kExitUsage
             : kExitFailure;
}

}  // namespace trireme::cli
