// SPDX-License-Identifier: Apache-2.0
// Fuzz target: the header of a safetensors file. An accepted table must lie inside the data.
#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "formats/safetensors_header.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  // The last byte says how many bytes of tensors follow, so that both verdicts are common.
  const uint64_t data_bytes = size == 0 ? 0 : data[size - 1];
  const auto header =
      trireme::ParseSafetensorsHeader(text.substr(0, size == 0 ? 0 : size - 1), data_bytes);
  if (!header.ok()) return 0;
  uint64_t total = 0;
  for (const trireme::TensorRecord& record : header->records) {
    const uint64_t bytes =
        static_cast<uint64_t>(trireme::DTypeBytes(record.dtype, record.shape.num_elements()));
    TRIREME_CHECK_LE(record.begin + bytes, data_bytes);
    total += bytes;
  }
  TRIREME_CHECK_EQ(total, data_bytes);
  return 0;
}
