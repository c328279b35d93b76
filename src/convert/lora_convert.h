// SPDX-License-Identifier: Apache-2.0
// Adapter files between torch's .bin and safetensors, tensor for tensor. Pure functions.
#pragma once

#include <string>

#include "base/status.h"

namespace trireme::convert {

// INVALID_ARGUMENT unless the names end so that one form becomes the other.
Status CheckTensorFileNames(const std::string& from, const std::string& to);

// The endings of the names say the forms: .safetensors on one side, .bin (.pt, .pth) on the other.
Status ConvertTensorFile(const std::string& from, const std::string& to);

}  // namespace trireme::convert
