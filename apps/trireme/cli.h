// SPDX-License-Identifier: Apache-2.0
// Command lines of the subcommands: the field's flag names over CLI11. Main thread only.
//
// Dashes and underscores inside a flag's name are alike. Every flag is one of four kinds: it does
// something, it changes nothing here (and --help says why), it belongs to a feature that does not
// exist yet (and is refused by name), or it is unknown (and the nearest known one is named).
#pragma once

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/status.h"

namespace trireme::cli {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailure = 1;  // the work could not be done
inline constexpr int kExitUsage = 2;    // the command line is wrong

class CommandLine {
 public:
  // `examples`: complete command lines, shown at the end of --help.
  CommandLine(std::string_view name, std::string_view summary, std::vector<std::string> examples);

  // A flag with a value. `name` as "--max_batch_size", or "-m,--model_name".
  template <typename T>
  CLI::Option* Add(const std::string& name, T& value, const std::string& help) {
    Known(name);
    return app_.add_option(name, value, help)->capture_default_str();
  }
  // A flag that may be repeated, each time with one or more values.
  template <typename T>
  CLI::Option* AddList(const std::string& name, std::vector<T>& values, const std::string& help) {
    Known(name);
    return app_.add_option(name, values, help);
  }
  // A flag without a value.
  CLI::Option* AddSwitch(const std::string& name, bool& value, const std::string& help);
  CLI::Option* AddPositional(const std::string& name, std::string& value, const std::string& help);

  // Accepted, with or without a value, and without effect, because of `why`.
  void AddNoEffect(const std::string& name, const std::string& why);
  // Refused unless its value is one of `harmless` ("disable", "1"), because of `why`.
  void AddRefused(const std::string& name, const std::string& why,
                  std::vector<std::string> harmless = {});

  // Parses the arguments after the subcommand. Unset: go on. Set: exit with that code, after the
  // help or the error was printed.
  std::optional<int> Parse(std::span<const std::string> arguments);

  // Whether the user gave the flag.
  bool Given(const std::string& name) const;

 private:
  void Known(const std::string& name);
  std::optional<int> CheckRefused() const;
  std::string NearestFlag(const std::string& flag) const;

  struct Refused {
    CLI::Option* option;  // owned by app_
    std::string why;
    std::vector<std::string> harmless;
    std::shared_ptr<std::vector<std::string>> values;
  };

  CLI::App app_;
  std::string name_;
  std::vector<std::string> known_flags_;
  std::vector<Refused> refused_;
};

// Prints "trireme NAME: message" to stderr and returns the exit code of the status.
int Fail(std::string_view command, const Status& status);

// The subcommands. Each returns the process' exit code.
using CommandFn = int (*)(std::span<const std::string> arguments);
struct Command {
  std::string_view name;
  std::string_view summary;
  CommandFn run;
};
std::span<const Command> Commands();

// Edit distance of two words (Levenshtein), for "did you mean".
int EditDistance(std::string_view a, std::string_view b);

}  // namespace trireme::cli
