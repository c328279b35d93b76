// SPDX-License-Identifier: Apache-2.0
// Flags of tritonserver and of its launch script that `trireme serve` takes besides its own. Main
// thread only.
#pragma once

#include <string>

#include "cli.h"

namespace trireme::cli {

struct TritonFlags {
  std::string log_info = "true";
  std::string log_warning = "true";
  std::string log_error = "true";
  std::string log_file;
  int log_verbose = 0;
};

void AddTritonFlags(CommandLine& line, TritonFlags& flags);
// Sets the log's level and file.
Status ApplyTritonFlags(const TritonFlags& flags);

}  // namespace trireme::cli
