// SPDX-License-Identifier: Apache-2.0
// The trireme executable: picks the subcommand.
#include <cstdio>
#include <new>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/status.h"
#include "base/version.h"
#include "cli.h"
#ifdef TRIREME_HAS_CUDA
#include "device/cuda/device_info.h"
#endif

namespace trireme::cli {
namespace {

void PrintHelp() {
  fmt::print(
      "trireme: from a Hugging Face folder to a served endpoint\n\nUsage: trireme COMMAND "
      "[flags]\n\n");
  for (const Command& command : Commands()) {
    fmt::print("  {:14} {}\n", command.name, command.summary);
  }
  fmt::print(
      "\n  --version      version, commit, processor features, CUDA\n"
      "\n`trireme COMMAND --help` shows the flags of a command with examples.\n");
}

int UnknownCommand(const std::string& name) {
  std::string_view nearest;
  int best = 1 << 20;
  for (const Command& command : Commands()) {
    const int distance = EditDistance(name, command.name);
    if (distance < best) {
      best = distance;
      nearest = command.name;
    }
  }
  fmt::print(stderr,
             "trireme: unknown command '{}'; did you mean '{}'? `trireme --help` lists all\n", name,
             nearest);
  return kExitUsage;
}

int Main(const std::vector<std::string>& arguments) {
  if (arguments.empty()) {
    PrintHelp();
    return kExitUsage;
  }
  if (arguments[0] == "--help" || arguments[0] == "-h" || arguments[0] == "help") {
    PrintHelp();
    return kExitOk;
  }
  if (arguments[0] == "--version") {
    fmt::print("{}\n", VersionText(BuildCommit()));
#ifdef TRIREME_HAS_CUDA
    fmt::print("gpu: {}\n", cuda::DeviceText());
#endif
    return kExitOk;
  }
  for (const Command& command : Commands()) {
    if (command.name == arguments[0]) return command.run(std::span(arguments).subspan(1));
  }
  return UnknownCommand(arguments[0]);
}

}  // namespace
}  // namespace trireme::cli

int main(int argc, char** argv) {
  try {
    return trireme::cli::Main(std::vector<std::string>(argv + 1, argv + argc));
  } catch (const std::bad_alloc&) {
    std::fputs("trireme: out of memory; lower the limits, such as --max_batch_size\n", stderr);
    return trireme::cli::kExitResources;
  }
}
