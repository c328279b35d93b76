// SPDX-License-Identifier: Apache-2.0
// How a client wants one output delivered. Plain data, the same for every frontend.
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace trireme::server {

struct OutputOptions {
  uint64_t classification = 0;  // the k best instead of the tensor; 0: the tensor
  bool binary = false;          // HTTP: bytes behind the JSON
  std::string region;           // shared memory to write to; "": none
  uint64_t region_offset = 0;
  uint64_t region_bytes = 0;
};

using OutputOptionsMap = std::map<std::string, OutputOptions>;

}  // namespace trireme::server
