// SPDX-License-Identifier: Apache-2.0
// Fuzz target: torch.save files in both forms. The bytes of every accepted tensor are read.
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/check.h"
#include "formats/torch_bin.h"

namespace {

// One past the last byte that a tensor reaches.
uint64_t End(const trireme::TensorRecord& record) {
  const uint64_t size = static_cast<uint64_t>(trireme::DTypeBits(record.dtype) / 8);
  const int64_t count = record.shape.num_elements();
  if (count == 0) return record.begin;
  if (record.strides.empty()) return record.begin + static_cast<uint64_t>(count) * size;
  uint64_t last = 0;
  for (int axis = 0; axis < record.shape.rank(); ++axis) {
    last += static_cast<uint64_t>((record.shape[axis] - 1) * record.strides[axis]);
  }
  return record.begin + (last + 1) * size;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto table = trireme::ReadTorchBinTable(std::as_bytes(std::span(data, size)));
  if (!table.ok()) return 0;
  for (const trireme::TensorRecord& record : *table) TRIREME_CHECK_LE(End(record), size);
  return 0;
}
