// SPDX-License-Identifier: Apache-2.0
// The JSON header of a safetensors file. Pure functions. Internal to formats/.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "formats/mapped_tensors.h"

namespace trireme {

// The reference implementation refuses longer headers too.
inline constexpr uint64_t kMaxSafetensorsHeaderBytes = 100'000'000;

struct SafetensorsHeader {
  std::vector<TensorRecord> records;  // `begin` counts from the end of the header
  std::map<std::string, std::string> metadata;
};

// Parses and checks a header against the `data_bytes` that follow it.
StatusOr<SafetensorsHeader> ParseSafetensorsHeader(std::string_view json, uint64_t data_bytes);

}  // namespace trireme
