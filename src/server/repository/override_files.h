// SPDX-License-Identifier: Apache-2.0
// Files that came with a load request, as a model folder of their own.
#pragma once

#include <map>
#include <string>

#include "trireme/status.h"

namespace trireme::server {

// Writes `files` ("1/model.py" -> content) below a new temporary folder and gives its path. Names
// that leave the folder are refused. The caller removes it.
StatusOr<std::string> WriteOverrideFiles(const std::map<std::string, std::string>& files);

}  // namespace trireme::server
