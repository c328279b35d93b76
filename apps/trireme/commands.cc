// SPDX-License-Identifier: Apache-2.0
#include "commands.h"

#include <array>

#include "cli.h"

namespace trireme::cli {

std::span<const Command> Commands() {
  static constexpr std::array kCommands = {
      Command{"build", "compile a checkpoint into an engine", RunBuild},
      Command{"run", "generate text with an engine", RunRun},
  };
  return kCommands;
}

}  // namespace trireme::cli
