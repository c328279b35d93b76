// SPDX-License-Identifier: Apache-2.0
// A child process with a socket on descriptor 3 and its output in pipes. Not thread-safe.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "server/backends/python/shared_buffers.h"

namespace trireme::server {

class ChildProcess {
 public:
  // NOT_FOUND for a program that is not there. The child leads a process group of its own, so that a
  // signal to the terminal is the server's to deal with, and has none of the server's descriptors.
  static StatusOr<ChildProcess> Spawn(const std::vector<std::string>& command);
  ~ChildProcess();
  ChildProcess(ChildProcess&&) noexcept;

  pid_t pid() const { return pid_; }
  Descriptor& socket() { return socket_; }
  int stdout_fd() const { return stdout_.get(); }
  int stderr_fd() const { return stderr_.get(); }

  // Kills the group and says how the child ended, e.g. "killed by signal 9", "exit code 1".
  std::string Reap();

 private:
  ChildProcess() = default;
  pid_t pid_ = -1;
  Descriptor socket_;
  Descriptor stdout_;
  Descriptor stderr_;
};

// Cuts what a process writes into lines of bounded length.
class LineReader {
 public:
  // The lines that are complete now.
  std::vector<std::string> Feed(std::string_view bytes);
  // What is left without a line's end.
  std::string TakeRest();

 private:
  std::string rest_;
};

}  // namespace trireme::server
