// SPDX-License-Identifier: Apache-2.0
// Base64 of files in JSON. Pure functions.
#pragma once

#include <string>
#include <string_view>

#include "trireme/status.h"

namespace trireme::server {

// RFC 4648 with padding; INVALID_ARGUMENT for anything else.
StatusOr<std::string> DecodeBase64(std::string_view text);

}  // namespace trireme::server
