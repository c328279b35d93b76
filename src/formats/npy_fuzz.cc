// SPDX-License-Identifier: Apache-2.0
// Fuzz target: .npy files and rows of ids as text.
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/check.h"
#include "formats/npy.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto tensor = trireme::ParseNpy(std::as_bytes(std::span(data, size)), "input");
  if (tensor.ok()) TRIREME_CHECK_LT(static_cast<size_t>(tensor->view().num_bytes()), size);
  const auto rows = trireme::ParseIdCsv({reinterpret_cast<const char*>(data), size}, "input");
  if (rows.ok()) TRIREME_CHECK(*trireme::ParseIdCsv(trireme::IdCsv(*rows), "again") == *rows);
  return 0;
}
