// SPDX-License-Identifier: Apache-2.0
// The JSON form of `trireme build`'s flags, as the reference's build_config. Pure functions.
#pragma once

#include <string>
#include <vector>

#include "cli.h"

namespace trireme::cli {

// The flags that the members of the file's object stand for, as "--name=value", so that a member is
// treated as its flag is: checked, without effect, or refused. The object is the file's whole or its
// member "build_config". An unknown member is INVALID_ARGUMENT; `line` says which flags exist.
StatusOr<std::vector<std::string>> FlagsOfBuildConfig(const std::string& path,
                                                      const CommandLine& line);

}  // namespace trireme::cli
