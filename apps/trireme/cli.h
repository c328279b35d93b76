// SPDX-License-Identifier: Apache-2.0
// Command lines of the subcommands: the field's flag names over CLI11. Main thread only.
//
// Dashes and underscores inside a flag's name are alike. Every flag is one of four kinds: it does
// something, it changes nothing here (and --help says why), it belongs to a feature that does not
// exist yet (and is refused by name), or it is unknown (and the nearest known one is named).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/status.h"

namespace trireme::cli {

// Exit codes of every command, as docs/exit_codes.md lists them.
inline constexpr int kExitOk = 0;
inline constexpr int kExitInternal = 1;  // a failure that is nobody's input: a defect, a full disk
inline constexpr int kExitUsage = 2;     // the command line is wrong; nothing was done
inline constexpr int kExitData = 3;  // a model, engine or input file cannot be used, or is missing
inline constexpr int kExitResources = 4;  // memory, disk, port or queue: may pass another time

// Values a numeric flag takes, both ends included. NaN lies in no range.
struct Bounds {
  double min = -1e300;
  double max = 1e300;
};
inline constexpr Bounds kPositive = {1, 1e300};
inline constexpr Bounds kNotNegative = {0, 1e300};
inline constexpr Bounds kBatchSizes = {0, 1 << 16};  // 0: as built
inline constexpr Bounds kTokenCounts = {0, 1 << 24};
inline constexpr Bounds kThreads = {0, 1024};
inline constexpr Bounds kPorts = {0, 65535};

class CommandLine {
 public:
  // `examples`: complete command lines, shown at the end of --help.
  CommandLine(std::string_view name, std::string_view summary, std::vector<std::string> examples);

  ~CommandLine();
  CommandLine(CommandLine&&) noexcept;

  // A flag with a value, as "--max_batch_size" or "-m,--model_name". What `value` holds is the
  // default that --help shows. A number outside its bounds is refused by the flag's name.
  void Add(const std::string& name, std::string& value, const std::string& help);
  void Add(const std::string& name, int& value, const std::string& help, Bounds bounds = {});
  void Add(const std::string& name, int64_t& value, const std::string& help, Bounds bounds = {});
  void Add(const std::string& name, uint64_t& value, const std::string& help, Bounds bounds = {});
  void Add(const std::string& name, float& value, const std::string& help, Bounds bounds = {});
  void Add(const std::string& name, double& value, const std::string& help, Bounds bounds = {});
  // A flag that may be repeated, each time with one or more values.
  void AddList(const std::string& name, std::vector<std::string>& values, const std::string& help);
  void AddList(const std::string& name, std::vector<int>& values, const std::string& help);
  // A flag without a value.
  void AddSwitch(const std::string& name, bool& value, const std::string& help);
  void AddPositional(const std::string& name, std::string& value, const std::string& help);
  // Makes a flag that was added one that must be given.
  void Require(const std::string& name);

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
  // Whether there is such a flag, and one without a value.
  bool Knows(const std::string& name) const;
  bool IsSwitch(const std::string& name) const;

 private:
  struct Impl;  // keeps CLI11 out of this header: its templates are slow to compile
  std::unique_ptr<Impl> impl_;
};

// Prints "trireme NAME: message" to stderr and returns the exit code of the status.
int Fail(std::string_view command, const Status& status);
// The same for what is wrong with the command line itself, found before any work.
int FailUsage(std::string_view command, const Status& status);

// Whether a file can be made or replaced at `path`, so that long work does not end in an error; an
// empty path is none. Errors name `flag`.
Status CheckOutputPath(std::string_view flag, const std::string& path);

// Whether a folder can be made, or files put into it, at `path`: tried, and undone. Errors name
// `flag`.
Status CheckOutputFolder(std::string_view flag, const std::string& path);

// The subcommands. Each returns the process' exit code.
using CommandFn = int (*)(std::span<const std::string> arguments);
struct Command {
  std::string_view name;
  std::string_view summary;
  CommandFn run;
};
std::span<const Command> Commands();

// "true", "on" or "1"; "false", "off" or "0". Errors name `flag`.
StatusOr<bool> ParseBool(const std::string& text, std::string_view flag);

// Edit distance of two words (Levenshtein), for "did you mean".
int EditDistance(std::string_view a, std::string_view b);

}  // namespace trireme::cli
