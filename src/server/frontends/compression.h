// SPDX-License-Identifier: Apache-2.0
// gzip and deflate of HTTP bodies. Pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "trireme/status.h"

namespace trireme::server {

enum class Encoding { kIdentity, kGzip, kDeflate };
std::string_view EncodingName(Encoding encoding);

// Of a Content-Encoding header; UNIMPLEMENTED names what is not known.
StatusOr<Encoding> ParseEncoding(std::string_view name);
// The best of an Accept-Encoding header by its q values; identity when nothing else is wanted.
Encoding ChooseEncoding(std::string_view accept);

// INVALID_ARGUMENT for data that is not so encoded or is longer than `max_bytes` when decoded.
StatusOr<std::string> Decompress(std::string_view data, Encoding encoding, int64_t max_bytes);
std::string Compress(std::string_view data, Encoding encoding);

}  // namespace trireme::server
