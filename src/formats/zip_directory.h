// SPDX-License-Identifier: Apache-2.0
// The directory of a zip archive whose members are stored, not compressed: where each lies, so
// that it can be used in place. Pure functions. Internal to formats/.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace trireme {

struct ZipMember {
  std::string_view name;  // points into the archive
  uint64_t offset = 0;    // of the data
  uint64_t num_bytes = 0;
};

// Sorted by name. Reads zip64. Refuses compressed or encrypted members, members outside the
// archive, members that share bytes and names listed twice.
StatusOr<std::vector<ZipMember>> ReadZipDirectory(std::span<const std::byte> archive);

}  // namespace trireme
