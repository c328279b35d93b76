// SPDX-License-Identifier: Apache-2.0
// The name git gives a file's content, as `git hash-object` prints it. Pure functions.
#pragma once

#include <string>
#include <string_view>

namespace trireme::server {

// 40 hexadecimal digits: SHA-1 of "blob LENGTH\0" and the content. It tells published files apart and
// defends against nothing: who can write the file can run code anyway.
std::string GitBlobId(std::string_view content);

}  // namespace trireme::server
