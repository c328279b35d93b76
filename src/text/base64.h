// SPDX-License-Identifier: Apache-2.0
// Base64. Thread-safe, no state.
#pragma once

#include <string>
#include <string_view>

namespace trireme {

// Appends the bytes of `text`, padded or not; false when it is not base64.
bool DecodeBase64(std::string_view text, std::string& bytes);

}  // namespace trireme
