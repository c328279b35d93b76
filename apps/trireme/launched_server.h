// SPDX-License-Identifier: Apache-2.0
// Servers that run in the background, known by their HTTP port: a record of each lies in a folder of
// the user's own. Functions of files and processes.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <map>
#include <string>

#include "trireme/status.h"

namespace trireme::cli {

struct LaunchedServer {
  pid_t pid = 0;
  std::string start_time;  // as /proc has it: a later process of the same number is another one
};

class LaunchRecords {
 public:
  // In XDG_RUNTIME_DIR, or in a folder of the temporary one that nobody else may use.
  static StatusOr<LaunchRecords> Open();

  // Those that still run, by port; records of others go.
  std::map<int, LaunchedServer> Running() const;
  Status Write(int port, pid_t pid) const;
  void Remove(int port) const;

 private:
  explicit LaunchRecords(std::string folder) : folder_(std::move(folder)) {}
  std::string PathOf(int port) const;

  std::string folder_;
};

// Whether something on this machine answers at the port.
bool PortAnswers(int port);
// Asks the server to end and waits; UNAVAILABLE when it still runs after `patience`.
Status StopServer(const LaunchedServer& server, std::chrono::seconds patience);
// Whether the process still runs.
bool IsRunning(const LaunchedServer& server);

}  // namespace trireme::cli
