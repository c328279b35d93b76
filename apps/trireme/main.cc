// SPDX-License-Identifier: Apache-2.0
// The trireme executable: picks the subcommand.
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <new>
#include <string>
#include <system_error>
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
  if (name.starts_with("-")) {
    fmt::print(
        stderr,
        "trireme: unknown flag '{}'; flags other than --help and --version follow a command, "
        "as in `trireme run {}`\n",
        name, name);
    return kExitUsage;
  }
  // Beyond half of a word there is no likeness.
  const bool is_near = best <= static_cast<int>(std::max<size_t>(2, name.size() / 2));
  fmt::print(stderr, "trireme: unknown command '{}'{}; `trireme --help` lists all\n", name,
             is_near ? fmt::format("; did you mean '{}'?", nearest) : "");
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

// Output that nobody gets is a failure: a full disk, a closed descriptor.
int OutputFailed(int error_number) {
  std::fprintf(stderr, "trireme: cannot write the output: %s\n", std::strerror(error_number));
  return error_number == ENOSPC || error_number == EDQUOT ? kExitResources : kExitInternal;
}

// The end of the output may still lie in the buffer.
int FlushOutput(int code) {
  errno = 0;
  const bool failed = std::fflush(stdout) != 0 || std::ferror(stdout) != 0;
  return failed && code == kExitOk ? OutputFailed(errno != 0 ? errno : EIO) : code;
}

}  // namespace
}  // namespace trireme::cli

int main(int argc, char** argv) {
  using namespace trireme::cli;
  try {
    return FlushOutput(Main(std::vector<std::string>(argv + 1, argv + argc)));
  } catch (const std::bad_alloc&) {
    std::fputs("trireme: out of memory; lower the limits, such as --max_batch_size\n", stderr);
    return kExitResources;
  } catch (const std::system_error& error) {  // of fmt::print
    return OutputFailed(error.code().value());
  }
}
