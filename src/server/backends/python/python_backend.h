// SPDX-License-Identifier: Apache-2.0
// Backend `python`: a user's model.py with its TritonPythonModel, in a process for each instance
// (docs/python_backend.md).
#pragma once

#include <memory>

#include "server/backends/backend.h"

namespace trireme::server {

std::shared_ptr<const Backend> MakePythonBackend();
// Backend `onnxruntime`: a model.onnx, run by the published package in such a process.
std::shared_ptr<const Backend> MakeOnnxRuntimeBackend();

}  // namespace trireme::server
