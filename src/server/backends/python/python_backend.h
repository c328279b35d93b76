// SPDX-License-Identifier: Apache-2.0
// Backend `python`: a user's model.py with its TritonPythonModel, in a process for each instance
// (docs/python_backend.md).
#pragma once

#include <memory>

#include "server/backends/backend.h"

namespace trireme::server {

std::shared_ptr<const Backend> MakePythonBackend();

}  // namespace trireme::server
