// SPDX-License-Identifier: Apache-2.0
// Adapter files between torch's .bin and safetensors, tensor for tensor. Pure function.
#pragma once

#include <string>

#include "base/status.h"

namespace trireme::convert {

// The endings of the names say the forms: .safetensors on one side, .bin (.pt, .pth) on the other.
Status ConvertTensorFile(const std::string& from, const std::string& to);

}  // namespace trireme::convert
